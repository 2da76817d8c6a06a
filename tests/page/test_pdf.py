"""A PDF that is chosen, dropped or pasted becomes its text, in the browser; or the page says why it does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Request, expect

from tests.page.test_browser import Chat, browser, context, no_litter  # noqa: F401 - fixtures
from tests.page.test_conversations import page_of

LOCK = "<< /Filter /Standard /V 1 /R 2 /P -4 /O <{0}> /U <{0}> >>".format("41" * 32)
GIVE = """([how, name, bytes]) => {
  const data = new DataTransfer(), target = document.querySelector(how === 'drop' ? '#chat' : '#box textarea');
  data.items.add(new File([new Uint8Array(bytes)], name, {type: 'application/pdf'}));
  const facts = {bubbles: true, cancelable: true};
  target.dispatchEvent(how === 'drop' ? new DragEvent('drop', {...facts, dataTransfer: data})
    : new ClipboardEvent('paste', {...facts, clipboardData: data}));
}"""


def pdf(*pages: str, trailer: str = "") -> bytes:
    """A PDF whose pages each say a line in Helvetica; an empty one draws a box."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for n, said in enumerate(pages):
        drawn = f"BT /F 12 Tf 72 700 Td ({said}) Tj ET" if said else "0 0 90 90 re f"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Resources << /Font << /F 3 0 R >> >> "
            f"/Contents {5 + 2 * n} 0 R >>"
        )
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
    text, places = "%PDF-1.4\n", []
    for n, each in enumerate(objects, 1):
        places.append(len(text))
        text += f"{n} 0 obj\n{each}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    return (
        f"{text}xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
        f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {trailer} >>\nstartxref\n{len(text)}\n%%EOF\n"
    ).encode()


@pytest.fixture(scope="module")
def _url() -> Iterator[str]:
    with page_of("yes") as (_, server):
        yield server.url


@pytest.fixture
def chat(context: BrowserContext, _url: str) -> Chat:  # noqa: F811
    return Chat(context.new_page(), _url)


def test_it_becomes_its_text_and_nothing_else_leaves_the_browser(context: BrowserContext) -> None:  # noqa: F811
    requests: list[Request] = []
    with page_of("yes") as (speaker, server):
        page = context.new_page()
        page.on("request", lambda request: requests.append(request))
        chat = Chat(page, server.url)
        assert not any("pdfjs" in request.url for request in requests)  # it costs nothing before
        for how in ("drop", "paste"):
            chat.box.fill("What is it?")
            page.evaluate(GIVE, [how, "a.pdf", list(pdf("Of foxes", "and hares"))])
            expect(chat.box).to_have_value("What is it?\n\na.pdf:\n```\nOf foxes\n\nand hares\n```\n")
        begun = len(requests)
        chat.box.press("Enter")
        chat.finished()
        assert "Of foxes\n\nand hares" in speaker.asked[0][0][0].content
    assert {request.url.rpartition("/")[0] for request in requests if "pdfjs" in request.url} == {f"{server.url}pdfjs"}
    sent = [request for request in requests[:begun] if request.method == "POST"]
    assert all("tokenize" in request.url for request in sent)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pdf("", ""), "it has no text in it, as a scan has none"),
        (pdf("secret", trailer=f"/Encrypt {LOCK} /ID [<41> <41>]"), "it is encrypted"),
        (b"%PDF-1.7\n\xff\x00", "it is broken, or no PDF"),
        (b"", "it is broken, or no PDF"),
    ],
    ids=["a scan", "encrypted", "broken", "empty"],
)
def test_it_says_why_there_is_no_text(chat: Chat, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.pdf").write_bytes(content)
    chat.page.locator("#tools input").set_input_files(tmp_path / "a.pdf")
    expect(chat.page.locator("#note")).to_have_text(f"a.pdf cannot be read here: {said}.")
    expect(chat.box).to_have_value("")
    expect(chat.box).to_be_editable()
