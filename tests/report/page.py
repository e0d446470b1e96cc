"""A page read as a browser would: elements, addresses and text, and whether every element is closed."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "input", "link", "hr"}
ADDRESSES = {"src", "href", "srcset", "xlink:href", "data", "action", "poster", "background"}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.faults, self.elements, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag, attributes):
        self.text += " "
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing, line {self.getpos()[0]}")

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data

    def tags(self):
        return {tag for tag, _ in self.elements}

    def addresses(self):
        return [value for _, attributes in self.elements for name, value in attributes.items() if name in ADDRESSES]

    def ids(self):
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]

    def words(self):
        return " ".join(self.text.split())
