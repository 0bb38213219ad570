"""The links of a page that lead on: what the user can do next."""

from html.parser import HTMLParser

from tests.support.browser import Answer


class _Links(HTMLParser):
    """The links in the main part of a page, by their text."""

    def __init__(self, body: str):
        super().__init__()
        self.links: dict[str, str] = {}
        self._href: str | None = None
        self._text = ""
        self.feed(body)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self._href, self._text = dict(attrs)["href"], ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._href is not None:
            assert self._text not in self.links
            self.links[self._text], self._href = self._href, None

    def handle_data(self, data: str) -> None:
        self._text += data


def next_steps(answer: Answer) -> dict[str, str]:
    """Return the addresses of the links in the main part of a page, by their texts; without the help for developers."""
    links = _Links(answer.body.partition("<main>")[2].partition("</main>")[0]).links
    return {text: href for text, href in links.items() if not href.startswith(("/errors#", "/errors?"))}
