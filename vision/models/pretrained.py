"""Classification networks of torchvision, with or without the weights that others trained."""

import inspect

from torch import nn

from vision.models.cnn import MODELS


class GrayToRGB(nn.Module):
    """One of torchvision's networks, which take three channels, for pictures of one or three."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.expand(-1, 3, -1, -1))


def torchvision_model(name, n_classes, *, weights=None, dropout=None):
    """One of torchvision's classification networks, by name; arguments as for `build`.

    Pretrained ``weights`` are those of all layers but the last, which is new.

    Raises
    ------
    ValueError
        When there is no such network or no such weights, or they cannot be downloaded.
    """
    from torchvision import models

    if name not in models.list_models(module=models):
        raise ValueError(f"no such model; expected one of {', '.join(MODELS)}, or torchvision's, such as resnet18")
    builder = inspect.signature(models.get_model_builder(name)).parameters
    options = {"num_classes": n_classes}
    # Two old networks have a second, auxiliary answer, and slow initial weights.
    options |= {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    if dropout is not None and ("dropout" in builder or name.startswith(("vgg", "alexnet", "efficientnet", "mobile"))):
        options["dropout"] = dropout
    net = models.get_model(name, **options)
    if weights:
        try:
            found = models.get_model_weights(name)[weights]
        except KeyError:
            raise ValueError(f"torchvision has no weights {weights} for it; try DEFAULT") from None
        try:
            trained = found.get_state_dict(progress=False, check_hash=True)
        except OSError as error:
            raise ValueError(f"weights {weights} cannot be downloaded ({error}); train without --weights") from None
        own = net.state_dict()
        fitting = {key: value for key, value in trained.items() if key in own and own[key].shape == value.shape}
        net.load_state_dict(fitting, strict=False)
    return GrayToRGB(net)
