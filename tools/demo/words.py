"""The vocabulary of the demo data: concepts, and their words in English and Spanish.

Concepts of the same group are related; the words of a concept in one language are synonyms.
"""

from __future__ import annotations

from typing import NamedTuple


class Noun(NamedTuple):
    """A thing that acts or is acted upon.

    Attributes:
        group: concepts of one group are related.
        kind: what verbs select by: person, animal, machine, thing, text or food.
        english: singular, without article.
        spanish: singular, with its article, which tells the gender.
    """

    group: str
    kind: str
    english: tuple[str, ...]
    spanish: tuple[str, ...]


class Verb(NamedTuple):
    """An action of an agent on an object.

    Attributes:
        group: concepts of one group are related.
        kinds: the kinds of object it takes.
        english: infinitives without "to"; of several words the first is conjugated.
        spanish: infinitives.
        deliberate: whether it can be done in some manner.
        animals: whether animals do it too.
    """

    group: str
    kinds: tuple[str, ...]
    english: tuple[str, ...]
    spanish: tuple[str, ...]
    deliberate: bool = True
    animals: bool = False


class Quality(NamedTuple):
    """An adjective for nouns of some kinds; Spanish in the masculine singular, always after its noun."""

    group: str
    kinds: tuple[str, ...]
    english: tuple[str, ...]
    spanish: tuple[str, ...]


class Phrase(NamedTuple):
    """A phrase for a place, a time, a manner or a count."""

    group: str
    english: tuple[str, ...]
    spanish: tuple[str, ...]


NOUNS: dict[str, Noun] = {
    "doctor": Noun("health", "person", ("doctor", "physician"), ("el médico", "el doctor")),
    "nurse": Noun("health", "person", ("nurse",), ("la enfermera",)),
    "teacher": Noun("school", "person", ("teacher", "instructor"), ("el profesor", "el maestro")),
    "student": Noun("school", "person", ("student", "pupil"), ("el alumno", "el estudiante")),
    "boy": Noun("children", "person", ("boy", "lad"), ("el niño", "el chico")),
    "girl": Noun("children", "person", ("girl", "lass"), ("la niña", "la chica")),
    "police officer": Noun("law", "person", ("police officer", "cop"), ("el policía", "el agente")),
    "lawyer": Noun("law", "person", ("lawyer", "attorney"), ("el abogado", "el letrado")),
    "farmer": Noun("land", "person", ("farmer", "grower"), ("el granjero", "el agricultor")),
    "gardener": Noun("land", "person", ("gardener",), ("el jardinero",)),
    "singer": Noun("stage", "person", ("singer", "vocalist"), ("la cantante", "la vocalista")),
    "actor": Noun("stage", "person", ("actor", "performer"), ("el actor", "el intérprete")),
    "writer": Noun("art", "person", ("writer", "author"), ("la escritora", "la autora")),
    "painter": Noun("art", "person", ("painter",), ("la pintora",)),
    "mother": Noun("parents", "person", ("mother", "mom"), ("la madre", "la mamá")),
    "father": Noun("parents", "person", ("father", "dad"), ("el padre", "el papá")),
    "grandmother": Noun("grandparents", "person", ("grandmother", "granny"), ("la abuela",)),
    "grandfather": Noun("grandparents", "person", ("grandfather", "grandpa"), ("el abuelo",)),
    "cook": Noun("kitchen", "person", ("cook", "chef"), ("el cocinero", "el chef")),
    "waitress": Noun("kitchen", "person", ("waitress",), ("la camarera", "la mesera")),
    "driver": Noun("transport", "person", ("driver", "motorist"), ("el conductor", "el chófer")),
    "pilot": Noun("transport", "person", ("pilot", "aviator"), ("el piloto", "el aviador")),
    "shopkeeper": Noun("trade", "person", ("shopkeeper", "merchant"), ("la tendera", "la comerciante")),
    "customer": Noun("trade", "person", ("customer", "shopper"), ("el cliente", "el comprador")),
    "boss": Noun("office", "person", ("boss", "manager"), ("la jefa", "la gerente")),
    "secretary": Noun("office", "person", ("secretary",), ("la secretaria",)),
    "dog": Noun("pets", "animal", ("dog", "hound"), ("el perro",)),
    "cat": Noun("pets", "animal", ("cat",), ("el gato",)),
    "horse": Noun("stable", "animal", ("horse",), ("el caballo",)),
    "donkey": Noun("stable", "animal", ("donkey",), ("el burro", "el asno")),
    "bicycle": Noun("two wheels", "machine", ("bicycle", "bike"), ("la bicicleta", "la bici")),
    "motorcycle": Noun("two wheels", "machine", ("motorcycle", "motorbike"), ("la motocicleta", "la moto")),
    "car": Noun("four wheels", "machine", ("car", "automobile"), ("el coche", "el automóvil")),
    "truck": Noun("four wheels", "machine", ("truck", "lorry"), ("el camión",)),
    "phone": Noun("electronics", "machine", ("phone", "telephone"), ("el teléfono",)),
    "computer": Noun("electronics", "machine", ("computer",), ("el ordenador", "la computadora")),
    "guitar": Noun("music", "machine", ("guitar",), ("la guitarra",)),
    "violin": Noun("music", "machine", ("violin", "fiddle"), ("el violín",)),
    "wallet": Noun("bags", "thing", ("wallet", "billfold"), ("la cartera", "la billetera")),
    "suitcase": Noun("bags", "thing", ("suitcase",), ("la maleta", "la valija")),
    "ring": Noun("jewels", "thing", ("ring",), ("el anillo", "la sortija")),
    "necklace": Noun("jewels", "thing", ("necklace",), ("el collar",)),
    "jacket": Noun("clothes", "thing", ("jacket",), ("la chaqueta", "la cazadora")),
    "hat": Noun("clothes", "thing", ("hat",), ("el sombrero",)),
    "book": Noun("literature", "text", ("book",), ("el libro",)),
    "novel": Noun("literature", "text", ("novel",), ("la novela",)),
    "letter": Noun("papers", "text", ("letter", "missive"), ("la carta", "la misiva")),
    "report": Noun("papers", "text", ("report",), ("el informe", "el reporte")),
    "cake": Noun("sweets", "food", ("cake",), ("el pastel", "la tarta")),
    "cookie": Noun("sweets", "food", ("cookie", "biscuit"), ("la galleta",)),
    "soup": Noun("dishes", "food", ("soup", "broth"), ("la sopa", "el caldo")),
    "stew": Noun("dishes", "food", ("stew",), ("el guiso", "el estofado")),
    "sandwich": Noun("savoury", "food", ("sandwich",), ("el bocadillo", "el emparedado")),
    "potato": Noun("savoury", "food", ("potato", "spud"), ("la patata", "la papa")),
}

GOODS = ("machine", "thing", "text", "food")
BEINGS = ("person", "animal")

VERBS: dict[str, Verb] = {
    "buy": Verb("trade", GOODS, ("buy", "purchase"), ("comprar", "adquirir")),
    "sell": Verb("trade", GOODS, ("sell",), ("vender",)),
    "find": Verb("whereabouts", GOODS, ("find", "discover"), ("encontrar", "hallar"), False, True),
    "lose": Verb("whereabouts", GOODS, ("lose", "misplace"), ("perder", "extraviar"), False),
    "steal": Verb("mischief", GOODS, ("steal", "pinch"), ("robar", "hurtar")),
    "hide": Verb("mischief", GOODS, ("hide", "conceal"), ("esconder", "ocultar")),
    "repair": Verb("state", ("machine",), ("repair", "fix"), ("reparar", "arreglar")),
    "break": Verb("state", ("machine",), ("break", "smash"), ("romper", "destrozar"), False),
    "clean": Verb("care", ("machine", "thing"), ("clean", "wash"), ("limpiar", "lavar")),
    "paint": Verb("care", ("machine", "thing"), ("paint",), ("pintar",)),
    "read": Verb("letters", ("text",), ("read", "peruse"), ("leer",)),
    "write": Verb("letters", ("text",), ("write", "compose"), ("escribir", "redactar")),
    "eat": Verb("meals", ("food",), ("eat", "devour"), ("comer", "devorar"), True, True),
    "prepare": Verb("meals", ("food",), ("prepare", "make"), ("preparar", "hacer")),
    "follow": Verb("search", BEINGS, ("follow", "pursue"), ("seguir", "perseguir"), True, True),
    "look for": Verb("search", BEINGS, ("look for", "seek"), ("buscar",), True, True),
    "greet": Verb("contact", ("person",), ("greet",), ("saludar",)),
    "call": Verb("contact", ("person",), ("call", "phone"), ("llamar", "telefonear")),
    "praise": Verb("judgement", ("person",), ("praise", "commend"), ("elogiar", "alabar")),
    "scold": Verb("judgement", ("person",), ("scold", "rebuke"), ("regañar", "reprender")),
    "help": Verb("dealings", ("person",), ("help", "assist"), ("ayudar", "auxiliar")),
    "trick": Verb("dealings", ("person",), ("trick", "deceive"), ("engañar", "timar")),
    "photograph": Verb("portrait", BEINGS, ("photograph",), ("fotografiar", "retratar")),
    "film": Verb("portrait", BEINGS, ("film", "record"), ("filmar", "grabar")),
}

QUALITIES: dict[str, Quality] = {
    "famous": Quality("fame", ("person",), ("famous", "renowned"), ("famoso", "célebre")),
    "unknown": Quality("fame", ("person",), ("unknown", "anonymous"), ("desconocido", "anónimo")),
    "rich": Quality("means", ("person",), ("rich", "wealthy"), ("rico", "adinerado")),
    "poor": Quality("means", ("person",), ("poor", "penniless"), ("pobre",)),
    "tired": Quality("body", ("person", "animal"), ("tired", "weary"), ("cansado", "fatigado")),
    "hungry": Quality("body", ("person", "animal"), ("hungry", "starving"), ("hambriento", "famélico")),
    "big": Quality("size", ("machine", "thing", "food"), ("big", "large"), ("grande",)),
    "small": Quality("size", ("machine", "thing", "food"), ("small", "little"), ("pequeño", "chiquito")),
    "new": Quality("newness", ("machine", "thing", "text"), ("new",), ("nuevo",)),
    "old": Quality("newness", ("machine", "thing", "text"), ("old", "ancient"), ("viejo", "antiguo")),
    "expensive": Quality("price", ("machine", "thing", "food"), ("expensive", "costly"), ("caro", "costoso")),
    "cheap": Quality("price", ("machine", "thing", "food"), ("cheap", "inexpensive"), ("barato", "económico")),
    "boring": Quality("interest", ("text",), ("boring", "tedious"), ("aburrido", "tedioso")),
    "exciting": Quality("interest", ("text",), ("exciting", "thrilling"), ("emocionante", "apasionante")),
}

PLACES: dict[str, Phrase] = {
    "park": Phrase("green", ("in the park",), ("en el parque",)),
    "garden": Phrase("green", ("in the garden", "in the yard"), ("en el jardín",)),
    "forest": Phrase("wild", ("in the forest", "in the woods"), ("en el bosque",)),
    "beach": Phrase("wild", ("on the beach", "by the sea"), ("en la playa", "a la orilla del mar")),
    "house": Phrase("indoors", ("in the house", "at home"), ("en la casa", "en el hogar")),
    "kitchen": Phrase("indoors", ("in the kitchen",), ("en la cocina",)),
    "market": Phrase("shops", ("at the market", "in the bazaar"), ("en el mercado",)),
    "shop": Phrase("shops", ("in the shop", "at the store"), ("en la tienda", "en el almacén")),
    "office": Phrase("work", ("at the office",), ("en la oficina", "en el despacho")),
    "factory": Phrase("work", ("in the factory", "at the plant"), ("en la fábrica",)),
    "station": Phrase("travel", ("at the station",), ("en la estación",)),
    "airport": Phrase("travel", ("at the airport", "in the terminal"), ("en el aeropuerto", "en la terminal")),
    "street": Phrase("outside", ("in the street", "on the road"), ("en la calle", "en la vía pública")),
    "square": Phrase("outside", ("in the square", "on the plaza"), ("en la plaza",)),
    "restaurant": Phrase("hospitality", ("at the restaurant", "in the diner"), ("en el restaurante",)),
    "hotel": Phrase("hospitality", ("at the hotel", "at the inn"), ("en el hotel", "en la posada")),
}

TIMES: dict[str, Phrase] = {
    "yesterday": Phrase("past", ("yesterday", "the day before today"), ("ayer",)),
    "last week": Phrase("past", ("last week", "a week ago"), ("la semana pasada", "hace una semana")),
    "long ago": Phrase("past", ("long ago", "many years ago"), ("hace mucho tiempo", "hace muchos años")),
    "every day": Phrase("present", ("every day", "daily"), ("todos los días", "a diario")),
    "on Sundays": Phrase("present", ("on Sundays", "every Sunday"), ("los domingos", "cada domingo")),
    "at night": Phrase("present", ("at night", "after dark"), ("por la noche", "de noche")),
    "tomorrow": Phrase("future", ("tomorrow",), ("mañana",)),
    "next month": Phrase("future", ("next month", "within a month"), ("el mes que viene", "el próximo mes")),
    "soon": Phrase("future", ("soon", "before long"), ("pronto", "dentro de poco")),
}

MANNERS: dict[str, Phrase] = {
    "quickly": Phrase("speed", ("quickly", "in a hurry"), ("rápidamente", "deprisa")),
    "slowly": Phrase("speed", ("slowly", "without haste"), ("lentamente", "despacio")),
    "happily": Phrase("mood", ("happily", "with joy"), ("alegremente", "con alegría")),
    "angrily": Phrase("mood", ("angrily", "in a rage"), ("furiosamente", "con rabia")),
    "secretly": Phrase("openness", ("secretly", "on the sly"), ("en secreto", "a escondidas")),
    "publicly": Phrase("openness", ("publicly", "in plain sight"), ("públicamente", "a la vista de todos")),
}

COUNTS: dict[str, Phrase] = {
    "two": Phrase("number", ("two", "a couple of"), ("dos", "un par de")),
    "several": Phrase("number", ("several", "various"), ("varios", "diversos")),
}
