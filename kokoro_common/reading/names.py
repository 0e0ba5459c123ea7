"""Names that are no words: URLs, e-mail addresses, paths, flags, hashes, identifiers of code."""

from __future__ import annotations

import re

from kokoro_common.reading.numbers import cardinal, digit_by_digit, in_pairs
from kokoro_common.reading.rule import BEGIN, END, any_of, word_set
from kokoro_common.text.marks import CLOSERS, COMMAS, STOPS, WIDE_COMMAS, WIDE_STOPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.reading.language import Language
    from kokoro_common.reading.rule import Match, Table

_LONGEST_PATH = 60  # characters of a URL's path; with a longer one only the host is said
_PIECE = re.compile(r"[A-Z]+(?![a-zß-ÿ])|[A-Z]?[a-zß-ÿ]+|[0-9]+|[^\W_A-Za-z0-9ß-ÿ]+")
_VOWEL = re.compile(r"[aeiouyAEIOUY]")
_NAME_BEGINNINGS = word_set("Mc Mac De Le La Di Du Van Fitz Ph")
_SPELLED = word_set("io uk us eu tv ai de fr jp br ch nl ca cn kr ru pl cz se fi dk")
_DIRECTORIES = word_set("src lib usr bin etc var home tests test docs include build app packages origin scripts")

# --- Identifiers -----------------------------------------------------------------------------------------------------


def code_in_words(written: str, lang: Language) -> str:
    """The words of an identifier: "get user name" for getUserName, "max size two" for MAX_SIZE2."""
    pieces = _PIECE.findall(written)
    shouted = written.isupper() and "_" in written
    said = []
    for i, piece in enumerate(pieces):
        if piece.isdigit() and piece.isascii():
            said.append(in_pairs(piece, lang) if len(piece) < 5 else digit_by_digit(piece, lang))
        elif not piece.isascii() or not lang.english:
            said.append(piece)
        elif (len(piece) < 4 and not _VOWEL.search(piece)) or piece in ("html", "http", "https") or len(piece) == 1:
            said.append(piece.upper())
        elif shouted and _VOWEL.search(piece):
            said.append(piece.lower())
        else:
            said.append(piece if piece.isupper() or (i == 0 and not _is_camel(written)) else piece.lower())
    return " ".join(said)


def _is_camel(written: str) -> bool:
    return re.search(r"[a-z][A-Z]", written) is not None or written.islower()


def _say_identifier(m: Match, lang: Language) -> str | None:
    if "_" not in m[0]:
        pieces = _PIECE.findall(m[0])
        if not m[0].isascii() or any(len(piece) < 2 for piece in pieces) or pieces[0] in _NAME_BEGINNINGS:
            return None
        if len(pieces[-1]) < 3 or not lang.latin:
            return None
    return code_in_words(m[0], lang)


def _say_mixed(m: Match, lang: Language) -> str | None:
    """mp3, H2O, x86, utf8: letters and digits."""
    pieces = _PIECE.findall(m[0])
    if not lang.english or len(pieces) > 6:
        return None
    return " ".join(
        in_pairs(piece, lang) if piece.isdigit() else " ".join(piece.upper()) if len(piece) < 3 else piece
        for piece in pieces
    )


def _letters(written: str, lang: Language) -> str:
    return " ".join(cardinal(c, lang) if c.isdigit() else c.upper() for c in written)


def _say_hash(m: Match, lang: Language) -> str | None:
    """The first seven characters of a hash, or the first group of a UUID."""
    head = m[0].partition("-")[0]
    if not (re.search(r"[0-9]", head) and re.search(r"[a-f]", head)) and "-" not in m[0]:
        return None
    return _letters(head if "-" in m[0] else head[:7], lang)


# --- Addresses, paths, flags -----------------------------------------------------------------------------------------


def _with_signs(written: str, lang: Language, names: dict[str, str]) -> str:
    """Words with the names of the signs between them; signs without a name are blanks."""
    pieces = re.findall(r"[^\W_]+|[\W_]", written)
    return " ".join(code_in_words(p, lang) if p[0].isalnum() else names.get(p, "") for p in pieces).strip()


def _sign_names(lang: Language, signs: str) -> dict[str, str]:
    named = {".": "dot", "/": "slash", "\\": "backslash", "@": "at", "-": "dash", "_": "underscore", "+": "plus"}
    named |= {":": "colon", "~": "tilde"}
    return {sign: lang.word(named[sign]) for sign in signs}


def _host(written: str, lang: Language) -> str:
    host = _with_signs(written, lang, _sign_names(lang, ".-"))
    head, _, last = host.rpartition(" ")
    return f"{head} {' '.join(last.upper())}" if lang.english and last in _SPELLED else host


def _port(port: str, lang: Language) -> str:
    return f" port {in_pairs(port, lang)}" if lang.english else f" {lang.word('colon')} {cardinal(port, lang)}"


def say_url(m: Match, lang: Language) -> str | None:
    """Host and path. Scheme, user, query, fragment and a long path are not said."""
    url = m["url"].rpartition("://")[2]
    host, slash, path = re.split(r"[?#]", url, maxsplit=1)[0].partition("/")
    host = host.rpartition("@")[2]
    host, _, port = host.removeprefix("www.").partition(":")
    said = _host(host, lang)
    if not said:
        return None
    if port.isdigit() and port.isascii():
        said += _port(port, lang)
    path = re.sub(r"%[0-9A-Fa-f]{2}", " ", path).strip("/")
    if slash and path and len(path) <= _LONGEST_PATH:
        said += f" {lang.word('slash')} {_with_signs(path, lang, _sign_names(lang, './'))}"
    return re.sub(r" +", " ", said)


def _say_domain(m: Match, lang: Language) -> str | None:
    """A URL without its scheme; "do.it" may be a full stop that lacks its blank."""
    host, slash, _ = m[0].partition("/")
    unsure = host.rpartition(".")[2] in ("in", "it", "me", "us", "es", "de", "co", "ch", "fr", "pt", "ar", "example")
    return None if unsure and not slash and not host.startswith("www.") else say_url(m, lang)


def _say_email(m: Match, lang: Language) -> str:
    local, _, host = m[0].partition("@")
    return f"{_with_signs(local, lang, _sign_names(lang, '._-+'))} {lang.word('at')} {_host(host, lang)}"


def _say_path(m: Match, lang: Language) -> str:
    """The path of a file or directory, and the line and column that a compiler names."""
    places = [(name, number) for name, number in m.groupdict().items() if number]
    path = m[0][: m.start(places[0][0]) - m.start() - 1] if places else m[0]
    said = re.sub(r" +", " ", _with_signs(path, lang, _sign_names(lang, "./\\~:")))
    return "".join([said, *(f", {lang.word(name)} {cardinal(number, lang)}" for name, number in places)])


def _say_relative(m: Match, lang: Language) -> str | None:
    """src/lib/names; but "red/green/blue" are alternatives."""
    if re.search(r"[._0-9-]", m[0]) or m[0].partition("/")[0] in _DIRECTORIES:
        return _say_path(m, lang)
    return m[0].replace("/", " ") if lang.english else m[0]


def _say_address(m: Match, lang: Language) -> str | None:
    """IPv4, perhaps with a prefix length or port."""
    parts = m[1].split(".")
    if any(int(part) > 255 for part in parts):
        return None
    dot = f" {lang.word('dot')} "
    said = dot.join(in_pairs(part, lang) if part[0] != "0" else digit_by_digit(part, lang) for part in parts)
    said += f" {lang.word('slash')} {cardinal(m[2], lang)}" if m[2] else ""
    return said + (_port(m[3], lang) if m[3] else "")


def _say_flag(m: Match, lang: Language) -> str:
    """--no-wait, -o, --lang=ja."""
    dash, name = lang.word("dash"), m[2]
    spelled = name.upper() if name in "aA" else name
    said = f"{dash} {dash} {code_in_words(name, lang)}" if m[1] == "--" else f"{dash} {spelled}"
    return said + (f" {lang.word('equals')} " if m[3] else "")


# --- Rules -----------------------------------------------------------------------------------------------------------

_EXTENSIONS = (
    "py pyi js mjs ts jsx tsx c h cc cpp hpp rs go java kt swift rb php pl lua sh bash zsh "
    "bat ps1 md rst txt tex json jsonl "
    "toml yaml yml ini cfg conf env lock html htm css scss xml csv tsv sql log pdf docx? "
    "xlsx? pptx? odt epub png jpe?g gif "
    "svg webp ico mp3 wav flac ogg opus m4a mp4 mkv avi mov webm zip tar gz bz2 xz zst 7z "
    "exe dll so dylib o a whl deb rpm "
    "iso bin dat db sqlite bak tmp diff patch ipynb onnx pth? gguf safetensors npy npz service"
).replace(" ", "|")
_TLDS = any_of(
    word_set("com org net io dev edu gov info app ai co me tv uk de fr es it br jp cn in us eu ca au ch nl pt mx kr ru")
)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})"
_LINE = r"(?::(?P<line>[0-9]{1,7})(?::(?P<column>[0-9]{1,5}))?)?"
_PATH_NAME = rf"(?:[\w.-]+/){{0,20}}\w[\w-]*(?:\.[\w-]+){{0,5}}\.(?:{_EXTENSIONS}){END}"
_DOMAIN = rf"(?:{_LABEL}\.(?:{_LABEL}\.){{0,4}}(?:{_TLDS})|localhost(?=:[0-9]))(?::[0-9]{{1,5}})?{END}(?!\.[A-Za-z])"
_URL_PART = r"[^\s<>\"'`|{}\\^()]|\([^\s<>()]{0,80}\)"  # a lone bracket is not the URL's
_URL_END = rf"[^\s<>`|{{}}\\^(~.{re.escape(COMMAS + WIDE_COMMAS + STOPS + WIDE_STOPS + CLOSERS)}]|\([^\s<>()]{{0,80}}\)"

ADDRESSES: Table = (
    ("", rf"(?:https?|ftp|ssh|git|file)://(?P<url>(?:{_URL_PART})*(?:{_URL_END}))", say_url),
    ("", rf"{BEGIN}[A-Za-z0-9][\w.+-]{{0,63}}@(?:{_LABEL}\.){{1,6}}[A-Za-z]{{2,24}}{END}", _say_email),
    ("", rf"{BEGIN}(?<![@./])(?P<url>{_DOMAIN}(?:/[\w./~%?=&#+-]*[\w/])?)", _say_domain),
    ("", rf"{BEGIN}[0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}{END}", _say_hash),
    ("", rf"{BEGIN}(?<!#)[0-9a-f]{{7,64}}{END}", _say_hash),
    (
        "",
        rf"{BEGIN}([0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}})(?:/([0-9]{{1,2}}))?(?::([0-9]{{2,5}}))?{END}(?!\.[0-9])",
        _say_address,
    ),
    ("", rf"{BEGIN}0x([0-9A-Fa-f]+){END}", lambda m, lang: f"hex {_letters(m[1], lang)}"),
    ("", r"(?<![\w-])(--)([A-Za-z][\w-]*)(=(?=\S))?", _say_flag),
    ("", r"(?<![^\s`'\"(\[])(-)([A-Za-z])(?![\w-])(=(?=\S))?", _say_flag),
    ("", rf"(?<![\w/.~<:)])(?:~|\.{{1,2}})?(?:/(?:\.\.|[\w.+@-]*\w)){{1,40}}/?{_LINE}", _say_path),
    ("", rf"{BEGIN}[A-Za-z]:(?:\\[\w.-]*\w){{1,20}}", _say_path),
    ("", rf"{BEGIN}(?=[0-9_-]*[A-Za-z]){_PATH_NAME}{_LINE}", _say_path),
    ("", r"(?<![\w.…)/])\.[a-z][\w-]{2,30}", _say_path),
    ("", rf"{BEGIN}[A-Za-z][\w-]*(?:/[\w.-]*\w){{2,20}}", _say_relative),
    ("", rf"{BEGIN}[A-Za-z_]\w*(?:\.[A-Za-z_]\w+)+(?=\()", _say_path),
)
LANGUAGE_NAMES: Table = (
    ("ab", rf"{BEGIN}C\+\+", lambda m, lang: "C plus plus"),
    ("ab", rf"{BEGIN}([CF])#(?!\w)", lambda m, lang: f"{m[1]} sharp"),
)
IDENTIFIERS: Table = (
    ("", r"(?<!\w)@(?=[A-Za-z_])", lambda m, lang: lang.word("at") + " "),
    ("ab", r"(?<![\w&])#([A-Za-z]\w*)", lambda m, lang: f"hashtag {code_in_words(m[1], lang)}"),
    ("", rf"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9]*(?:_+[A-Za-z0-9]+)+{END}", _say_identifier),
    (
        "",
        rf"{BEGIN}(?:[a-z]{{2,}}[A-Z][A-Za-z]*|[A-Z]{{3,}}[a-z]{{2,}}|(?:[A-Z][a-z]+){{3,}}){END}",
        _say_identifier,
    ),
    ("ab", rf"{BEGIN}[A-Za-z]+[0-9]+[A-Za-z0-9]*{END}", _say_mixed),
)
