"""Reading the pages that the tests write."""

from html.parser import HTMLParser

#: Attributes from which a browser fetches something.
FETCHING = ("src", "href", "srcset", "action", "data", "poster")


class PageReader(HTMLParser):
    """Collects the tags, the text, the attributes that make a browser fetch something, and event handlers."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.links, self.handlers, self.pieces = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in FETCHING]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.pieces.append(data)

    @property
    def text(self) -> str:
        """What people see, with single spaces."""
        return " ".join(" ".join(self.pieces).split())

    @property
    def is_self_contained(self) -> bool:
        """Whether nothing is fetched and no script can run."""
        return not self.handlers and "script" not in self.tags and all(link.startswith("data:") for link in self.links)
