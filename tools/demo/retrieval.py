"""Write ``src/embedsweep/data/demo_retrieval.parquet``: questions, passages, and how well each answers which.

    python -m tools.demo.retrieval

Each country has five passages, about its capital, language, currency, neighbours and highest mountain. A question
judges those of its country: 2 answers it, 1 helps, 0 does neither. Questions and passages share few words but the
country's name, so that a model has to learn which question asks for what. All questions about a country are in one
split; the passages of all countries are searched in all three. Other texts change scores in the documentation and the
data digests of studies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from embedsweep.config.trial import Split
from embedsweep.data.demo import RETRIEVAL_FILE

Row = tuple[str, str, str, str, str, str, int]

COLUMNS = ("split", "query_id", "query", "document_id", "title", "document", "relevance")
"""Columns of the file, a row for each judgement."""

TOPICS = ("capital", "language", "currency", "neighbours", "mountain")
"""What the passages of a country are about, in their order."""

RELEVANCE: Mapping[str, tuple[int, ...]] = {
    "government": (2, 0, 0, 0, 0),
    "speech": (0, 2, 0, 0, 0),
    "money": (0, 0, 2, 0, 0),
    "map": (1, 0, 0, 2, 0),
    "height": (0, 0, 0, 0, 2),
    "journey": (1, 2, 2, 0, 0),
}
"""Question -> relevance of the passage about each topic."""

QUESTIONS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "government": "In which city does the government of {} sit?",
        "speech": "What do people speak in {}?",
        "money": "How do I pay in {}?",
        "map": "Where do I find {} on the map?",
        "height": "How far up can I climb in {}?",
        "journey": "What should I know before I travel to {}?",
    },
    "es": {
        "government": "¿En qué ciudad está el gobierno de {}?",
        "speech": "¿Qué habla la gente en {}?",
        "money": "¿Cómo se paga en {}?",
        "map": "¿Dónde queda {} en el mapa?",
        "height": "¿Hasta dónde se puede subir en {}?",
        "journey": "¿Qué debo saber antes de viajar a {}?",
    },
}
"""Language -> question -> its text, with a place for the country."""


class Country(NamedTuple):
    """A country.

    Attributes:
        split: of its questions.
        language: of its questions and passages.
        name: in that language, title of its passages.
        questions: what is asked about it, keys of :data:`RELEVANCE`.
        passages: one about each of :data:`TOPICS`.
    """

    split: Split
    language: str
    name: str
    questions: tuple[str, ...]
    passages: tuple[str, ...]


COUNTRIES = (
    Country(
        "train",
        "en",
        "Norway",
        ("government", "speech", "money", "journey"),
        (
            "Oslo is the capital of Norway.",
            "The official language of Norway is Norwegian.",
            "The currency of Norway is the krone.",
            "Norway borders Sweden, Finland and Russia.",
            "The highest mountain of Norway is Galdhøpiggen, with 2469 metres.",
        ),
    ),
    Country(
        "train",
        "en",
        "Kenya",
        ("government", "speech", "map", "height"),
        (
            "Nairobi is the capital of Kenya.",
            "The official languages of Kenya are Swahili and English.",
            "The currency of Kenya is the shilling.",
            "Kenya borders Ethiopia, Somalia, South Sudan, Uganda and Tanzania.",
            "The highest mountain of Kenya is Mount Kenya, with 5199 metres.",
        ),
    ),
    Country(
        "train",
        "en",
        "Japan",
        ("government", "money", "height", "journey"),
        (
            "Tokyo is the capital of Japan.",
            "The language of Japan is Japanese.",
            "The currency of Japan is the yen.",
            "Japan borders no other country: it is a chain of islands in the Pacific Ocean.",
            "The highest mountain of Japan is Mount Fuji, with 3776 metres.",
        ),
    ),
    Country(
        "train",
        "en",
        "Canada",
        ("speech", "money", "map", "height"),
        (
            "Ottawa is the capital of Canada.",
            "The official languages of Canada are English and French.",
            "The currency of Canada is the Canadian dollar.",
            "Canada borders the United States in the south and in the west.",
            "The highest mountain of Canada is Mount Logan, with 5959 metres.",
        ),
    ),
    Country(
        "train",
        "es",
        "Perú",
        ("government", "speech", "map", "journey"),
        (
            "Lima es la capital de Perú.",
            "Las lenguas oficiales de Perú son el español, el quechua y el aimara.",
            "La moneda de Perú es el sol.",
            "Perú limita con Ecuador, Colombia, Brasil, Bolivia y Chile.",
            "La montaña más alta de Perú es el Huascarán, de más de 6700 metros.",
        ),
    ),
    Country(
        "train",
        "es",
        "Italia",
        ("government", "money", "height", "journey"),
        (
            "Roma es la capital de Italia.",
            "La lengua oficial de Italia es el italiano.",
            "La moneda de Italia es el euro.",
            "Italia limita con Francia, Suiza, Austria y Eslovenia.",
            "La montaña más alta de Italia es el Mont Blanc, de unos 4800 metros.",
        ),
    ),
    Country(
        "dev",
        "en",
        "Greece",
        ("government", "money", "journey"),
        (
            "Athens is the capital of Greece.",
            "The official language of Greece is Greek.",
            "The currency of Greece is the euro.",
            "Greece borders Albania, North Macedonia, Bulgaria and Turkey.",
            "The highest mountain of Greece is Mount Olympus, with 2918 metres.",
        ),
    ),
    Country(
        "dev",
        "en",
        "Poland",
        ("speech", "map", "height"),
        (
            "Warsaw is the capital of Poland.",
            "The official language of Poland is Polish.",
            "The currency of Poland is the zloty.",
            "Poland borders Germany, Czechia, Slovakia, Ukraine, Belarus, Lithuania and Russia.",
            "The highest mountain of Poland is Rysy, with 2499 metres.",
        ),
    ),
    Country(
        "dev",
        "es",
        "Chile",
        ("government", "money"),
        (
            "Santiago es la capital de Chile.",
            "La lengua oficial de Chile es el español.",
            "La moneda de Chile es el peso.",
            "Chile limita con Perú, Bolivia y Argentina.",
            "La montaña más alta de Chile es el Ojos del Salado, de más de 6800 metros.",
        ),
    ),
    Country(
        "test",
        "en",
        "Thailand",
        ("government", "money", "journey"),
        (
            "Bangkok is the capital of Thailand.",
            "The official language of Thailand is Thai.",
            "The currency of Thailand is the baht.",
            "Thailand borders Myanmar, Laos, Cambodia and Malaysia.",
            "The highest mountain of Thailand is Doi Inthanon, with 2565 metres.",
        ),
    ),
    Country(
        "test",
        "en",
        "India",
        ("speech", "map", "height"),
        (
            "New Delhi is the capital of India.",
            "The official languages of India are Hindi and English.",
            "The currency of India is the rupee.",
            "India borders Pakistan, China, Nepal, Bhutan, Bangladesh and Myanmar.",
            "The highest mountain of India is Kangchenjunga, with 8586 metres.",
        ),
    ),
    Country(
        "test",
        "es",
        "Marruecos",
        ("speech", "map"),
        (
            "Rabat es la capital de Marruecos.",
            "Las lenguas oficiales de Marruecos son el árabe y el amazig.",
            "La moneda de Marruecos es el dírham.",
            "Marruecos limita con Argelia y, en Ceuta y Melilla, con España.",
            "La montaña más alta de Marruecos es el Toubkal, de 4167 metros.",
        ),
    ),
)


def rows() -> list[Row]:
    """Return all rows: country by country and question by question, each with every passage of its country."""
    return [
        (
            country.split,
            f"{country.name}-{question}",
            QUESTIONS[country.language][question].format(country.name),
            f"{country.name}-{topic}",
            country.name,
            passage,
            relevance,
        )
        for country in COUNTRIES
        for question in country.questions
        for topic, passage, relevance in zip(TOPICS, country.passages, RELEVANCE[question], strict=True)
    ]


def write(path: Path) -> None:
    """Write the rows to a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = (list(column) for column in zip(*rows(), strict=True))
    table = pa.table(dict(zip(COLUMNS, columns, strict=True)))
    pq.write_table(table, path, compression="zstd", compression_level=19)


if __name__ == "__main__":
    write(RETRIEVAL_FILE)
