"""The languages that can be read: how each writes numbers, and what it calls the signs."""

from __future__ import annotations

from kokoro_common.record import Record


class Language(Record):
    letter: str  # Kokoro's
    num2words: str  # the language's name in num2words; "": its G2P reads digits better than number words
    thousands: str  # pattern of a separator between groups of digits
    point: str  # pattern of the decimal point
    leading_point: str  # pattern of a decimal point that a number may begin with
    blank: str = " "  # between words

    @property
    def english(self) -> bool:
        return self.letter in "ab"

    @property
    def romance(self) -> bool:
        """Numbers agree with their noun, and have a decimal comma."""
        return self.letter in "efip"

    @property
    def latin(self) -> bool:
        """Written in Latin letters."""
        return self.english or self.romance

    @property
    def tables(self) -> str:
        """The letter that tables know the language by: British English has the American ones."""
        return "a" if self.letter == "b" else self.letter

    @property
    def number(self) -> str:
        """Pattern of a number without its sign."""
        return (
            rf"(?:(?:[0-9]{{1,3}}(?:{self.thousands}[0-9]{{3}})+(?![0-9])|[0-9]+)(?:{self.point}[0-9]+)?"
            rf"|(?<![0-9.,]){self.leading_point}[0-9]+)"
        )

    def word(self, name: str) -> str:
        """What a sign, a unit or a link between words is called, by its English name: "slash", "percent"."""
        return _WORDS[name][self.tables]


def _language(letter: str, num2words: str, *, blank: str = " ") -> Language:
    if letter == "f":
        thousands, point, leading_point = "[. \xa0\u202f]", "[.,]", ","
    elif letter in "eip":
        thousands, point, leading_point = "[.\xa0\u202f]", "[.,]", ","
    else:
        thousands, point, leading_point = ",", r"\.", r"\."
    return Language(
        letter=letter,
        num2words=num2words,
        thousands=thousands,
        point=point,
        leading_point=leading_point,
        blank=blank,
    )


LANGUAGES = {
    language.letter: language
    for language in (
        _language("a", "en"),
        _language("b", "en"),
        _language("e", "es"),
        _language("f", "fr"),
        _language("h", ""),
        _language("i", "it"),
        _language("j", "ja", blank=""),
        _language("p", "pt_BR"),
        _language("z", "", blank=""),
    )
}

_COLUMNS = "aefhijpz"
_WORDS = {
    row.split(" = ")[0].strip(): dict(zip(_COLUMNS, row.split(" = ")[1].split(" | "), strict=True))
    for row in """
        point = point | coma | virgule | दशमलव | virgola | 点 | vírgula | 点
        dot = dot | punto | point | डॉट | punto | ドット | ponto | 点
        slash = slash | barra | slash | स्लैश | barra | スラッシュ | barra | 斜杠
        backslash = backslash | contrabarra | antislash | बैकस्लैश | backslash | バックスラッシュ | contrabarra | 反斜杠
        at = at | arroba | arobase | ऐट | chiocciola | アットマーク | arroba | 艾特
        dash = dash | guion | tiret | डैश | trattino | ハイフン | hífen | 杠
        underscore = underscore | guion bajo | tiret bas | अंडरस्कोर | trattino basso | アンダーバー | sublinhado | 下划线
        colon = colon | dos puntos | deux points | कोलन | due punti | コロン | dois pontos | 冒号
        tilde = tilde | tilde | tilde | टिल्ड | tilde | チルダ | til | 波浪号
        plus = plus | más | plus | प्लस | più | プラス | mais | 加
        minus = minus | menos | moins | माइनस | meno | マイナス | menos | 负
        times = times | por | fois | गुणा | per | かける | vezes | 乘以
        divided = divided by | entre | divisé par | भाग | diviso | 割る | dividido por | 除以
        equals = equals | es igual a | égale | बराबर | uguale | イコール | é igual a | 等于
        about = about | aproximadamente | environ | लगभग | circa | 約 | cerca de | 约
        to = to | a | à | से | a | から | a | 到
        and = and | y | et | और | e | と | e | 和
        percent = percent | por ciento | pour cent | प्रतिशत | per cento | パーセント | por cento | %
        image = image | imagen | image | चित्र | immagine | 画像 | imagem | 图片
        section = section | sección | paragraphe | धारा | paragrafo | セクション | parágrafo | 第
        line = line | línea | ligne | पंक्ति | riga | 行 | linha | 行
        column = column | columna | colonne | कॉलम | colonna | 列 | coluna | 列
        Celsius = degrees Celsius | grados Celsius | degrés Celsius | डिग्री | gradi Celsius | 度 | graus Celsius | 度
    """.strip().splitlines()
}
