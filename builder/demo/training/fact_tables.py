"""The facts themselves, as plain tables. General knowledge, written down for this project."""

from builder.demo.training.wording import spaced


def _rows(text: str) -> tuple[tuple[str, str], ...]:
    """ "France: Paris; Italy: Rome" -> (("France", "Paris"), ("Italy", "Rome"))."""
    pairs = [entry.split(":") for entry in " ".join(text.split()).split(";") if entry.strip()]
    return tuple((left.strip(), right.strip()) for left, right in pairs)


CAPITALS = _rows(
    """France: Paris; Germany: Berlin; Italy: Rome; Spain: Madrid; Portugal: Lisbon; Austria: Vienna;
    Switzerland: Bern; Belgium: Brussels; the Netherlands: Amsterdam; Denmark: Copenhagen; Sweden: Stockholm;
    Norway: Oslo; Finland: Helsinki; Iceland: Reykjavik; Ireland: Dublin; England: London; Scotland: Edinburgh;
    Wales: Cardiff; Greece: Athens; Poland: Warsaw; Hungary: Budapest; Romania: Bucharest; Bulgaria: Sofia;
    Serbia: Belgrade; Croatia: Zagreb; Slovenia: Ljubljana; Slovakia: Bratislava; Ukraine: Kyiv; Russia: Moscow;
    Estonia: Tallinn; Latvia: Riga; Lithuania: Vilnius; Belarus: Minsk; Albania: Tirana; Malta: Valletta;
    Cyprus: Nicosia; Turkey: Ankara; Georgia: Tbilisi; Armenia: Yerevan; Azerbaijan: Baku; China: Beijing;
    Japan: Tokyo; South Korea: Seoul; North Korea: Pyongyang; Mongolia: Ulaanbaatar; India: New Delhi;
    Pakistan: Islamabad; Bangladesh: Dhaka; Nepal: Kathmandu; Bhutan: Thimphu; Thailand: Bangkok;
    Vietnam: Hanoi; Laos: Vientiane; Cambodia: Phnom Penh; Malaysia: Kuala Lumpur; Indonesia: Jakarta;
    the Philippines: Manila; Iran: Tehran; Iraq: Baghdad; Syria: Damascus; Lebanon: Beirut; Jordan: Amman;
    Israel: Jerusalem; Saudi Arabia: Riyadh; Yemen: Sanaa; Oman: Muscat; Qatar: Doha; Kuwait: Kuwait City;
    Afghanistan: Kabul; Kazakhstan: Astana; Uzbekistan: Tashkent; Egypt: Cairo; Libya: Tripoli; Tunisia: Tunis;
    Algeria: Algiers; Morocco: Rabat; Sudan: Khartoum; Ethiopia: Addis Ababa; Kenya: Nairobi; Uganda: Kampala;
    Rwanda: Kigali; Somalia: Mogadishu; Ghana: Accra; Nigeria: Abuja; Senegal: Dakar; Mali: Bamako;
    Angola: Luanda; Zambia: Lusaka; Zimbabwe: Harare; Namibia: Windhoek; Botswana: Gaborone; Mozambique: Maputo;
    Madagascar: Antananarivo; South Africa: Pretoria; Canada: Ottawa; the United States: Washington;
    Mexico: Mexico City; Cuba: Havana; Jamaica: Kingston; Haiti: Port-au-Prince; Guatemala: Guatemala City;
    Honduras: Tegucigalpa; Nicaragua: Managua; Costa Rica: San Jose; Panama: Panama City; Colombia: Bogota;
    Venezuela: Caracas; Ecuador: Quito; Peru: Lima; Bolivia: Sucre; Chile: Santiago; Argentina: Buenos Aires;
    Uruguay: Montevideo; Paraguay: Asuncion; Brazil: Brasilia; Australia: Canberra; New Zealand: Wellington;
    Fiji: Suva"""
)

_BY_CONTINENT = {
    "Europe": """France Germany Italy Spain Portugal Austria Switzerland Belgium Denmark Sweden Norway Finland Iceland
        Ireland England Scotland Wales Greece Poland Hungary Romania Bulgaria Serbia Croatia Slovenia Slovakia
        Ukraine Estonia Latvia Lithuania Albania Malta""",
    "Asia": """China Japan Mongolia India Pakistan Bangladesh Nepal Bhutan Thailand Vietnam Laos Cambodia Malaysia
        Indonesia Iran Iraq Syria Lebanon Jordan Yemen Oman Qatar Kuwait Afghanistan""",
    "Africa": """Egypt Libya Tunisia Algeria Morocco Sudan Ethiopia Kenya Uganda Rwanda Somalia Ghana Nigeria Senegal
        Mali Angola Zambia Zimbabwe Namibia Botswana Mozambique Madagascar""",
    "North America": "Canada Mexico Cuba Jamaica Haiti Guatemala Honduras Nicaragua Panama",
    "South America": "Colombia Venezuela Ecuador Peru Bolivia Chile Argentina Uruguay Paraguay Brazil",
}
CONTINENTS = tuple((country, continent) for continent, names in _BY_CONTINENT.items() for country in names.split())

LANGUAGES = _rows(
    """France: French; Germany: German; Italy: Italian; Spain: Spanish; Portugal: Portuguese; Austria: German;
    Denmark: Danish; Sweden: Swedish; Norway: Norwegian; Finland: Finnish; Iceland: Icelandic; England: English;
    Greece: Greek; Poland: Polish; Hungary: Hungarian; Romania: Romanian; Bulgaria: Bulgarian;
    Ukraine: Ukrainian; Russia: Russian; Turkey: Turkish; China: Chinese; Japan: Japanese; Thailand: Thai;
    Vietnam: Vietnamese; Iran: Persian; Egypt: Arabic; Morocco: Arabic; Brazil: Portuguese; Mexico: Spanish;
    Argentina: Spanish; Australia: English; the United States: English; Cuba: Spanish; Peru: Spanish;
    Iraq: Arabic; Estonia: Estonian; Latvia: Latvian"""
)

COLOUR_OF = _rows(
    """grass: green; the sky: blue; snow: white; coal: black; a banana: yellow; a lemon: yellow; blood: red;
    a tomato: red; an orange: orange; a carrot: orange; the sun: yellow; milk: white; chocolate: brown;
    a raven: black; a flamingo: pink; an elephant: grey; a frog: green; the sea: blue; a strawberry: red;
    a cucumber: green; lettuce: green; a pea: green; a polar bear: white; a plum: purple; lavender: purple;
    gold: yellow; a fire engine: red; spinach: green; salt: white; sugar: white; coffee: brown;
    a pumpkin: orange; an emerald: green; a ruby: red; a sapphire: blue; a crow: black; a swan: white;
    moss: green; a blueberry: blue; a cherry: red; ketchup: red; honey: yellow; a pig: pink; rice: white;
    cloudless sky: blue; an aubergine: purple; a fox: red; a mouse: grey; fire: orange; paper: white"""
)
COLOUR_MIXES = (
    ("red", "yellow", "orange"), ("blue", "yellow", "green"), ("red", "blue", "purple"), ("red", "white", "pink"),
    ("black", "white", "grey"), ("red", "green", "brown"), ("blue", "green", "turquoise"),
)  # fmt: skip

ANIMAL_FACTS: tuple[tuple[str, str, str, int, str], ...] = (
    ("dog", "woof", "puppy", 4, "in a house"), ("cat", "meow", "kitten", 4, "in a house"), ("cow", "moo", "calf", 4,
    "on a farm"),
    ("sheep", "baa", "lamb", 4, "on a farm"), ("goat", "baa", "kid", 4, "on a farm"), ("pig", "oink", "piglet", 4,
    "on a farm"),
    ("horse", "neigh", "foal", 4, "in a stable"), ("donkey", "hee-haw", "foal", 4, "in a stable"), ("hen", "cluck",
    "chick", 2, "on a farm"),
    ("duck", "quack", "duckling", 2, "on a pond"), ("goose", "honk", "gosling", 2, "on a pond"), ("owl", "hoot",
    "owlet", 2, "in the forest"),
    ("frog", "ribbit", "tadpole", 4, "in a pond"), ("lion", "roar", "cub", 4, "in the savanna"), ("tiger", "roar",
    "cub", 4, "in the jungle"),
    ("bear", "growl", "cub", 4, "in the forest"), ("wolf", "howl", "pup", 4, "in the forest"), ("fox", "yip", "cub",
    4, "in the forest"),
    ("mouse", "squeak", "pup", 4, "in a hole"), ("bee", "buzz", "larva", 6, "in a hive"), ("snake", "hiss", "", 0,
    "in the grass"),
    ("crow", "caw", "chick", 2, "in a tree"), ("rooster", "cock-a-doodle-doo", "chick", 2, "on a farm"), ("turkey",
    "gobble", "chick", 2, "on a farm"),
    ("elephant", "toot", "calf", 4, "in the savanna"), ("monkey", "ooh ooh", "", 4, "in the jungle"), ("spider", "",
    "", 8, "in a web"),
    ("ant", "", "larva", 6, "in a nest"), ("butterfly", "", "caterpillar", 6, "in a meadow"), ("beetle", "", "larva",
    6, "in the wood"),
    ("fish", "", "fry", 0, "in the water"), ("whale", "", "calf", 0, "in the sea"), ("dolphin", "click", "calf", 0,
    "in the sea"),
    ("shark", "", "pup", 0, "in the sea"), ("crab", "", "", 10, "on the beach"), ("octopus", "", "", 0, "in the sea"),
    ("rabbit", "", "bunny", 4, "in a burrow"), ("deer", "", "fawn", 4, "in the forest"), ("kangaroo", "", "joey", 2,
    "in Australia"),
    ("koala", "", "joey", 4, "in Australia"), ("penguin", "", "chick", 2, "on the ice"), ("eagle", "", "eaglet", 2,
    "in the mountains"),
    ("swan", "", "cygnet", 2, "on a lake"), ("camel", "", "calf", 4, "in the desert"), ("giraffe", "", "calf", 4,
    "in the savanna"),
    ("zebra", "", "foal", 4, "in the savanna"), ("hedgehog", "", "hoglet", 4, "in a garden"), ("seal", "", "pup", 0,
    "on the ice"),
)  # fmt: skip

_ELEMENT_LIST = spaced(
    """H hydrogen He helium Li lithium Be beryllium B boron C carbon N nitrogen O oxygen F fluorine Ne neon Na sodium
    Mg magnesium Al aluminium Si silicon P phosphorus S sulphur Cl chlorine Ar argon K potassium Ca calcium Sc scandium
    Ti titanium V vanadium Cr chromium Mn manganese Fe iron Co cobalt Ni nickel Cu copper Zn zinc Ga gallium
    Ge germanium As arsenic Se selenium Br bromine Kr krypton Rb rubidium Sr strontium Y yttrium Zr zirconium
    Nb niobium Mo molybdenum Tc technetium Ru ruthenium Rh rhodium Pd palladium Ag silver Cd cadmium In indium Sn tin
    Sb antimony Te tellurium I iodine Xe xenon"""
)
ELEMENTS: tuple[tuple[int, str, str], ...] = (
    *((i // 2 + 1, _ELEMENT_LIST[i], _ELEMENT_LIST[i + 1]) for i in range(0, len(_ELEMENT_LIST), 2)),
    (74, "W", "tungsten"), (78, "Pt", "platinum"), (79, "Au", "gold"), (80, "Hg", "mercury"), (82, "Pb", "lead"), (92,
    "U", "uranium"),
)  # fmt: skip
"""Atomic number, symbol, name."""

UNITS: tuple[tuple[int, str, str], ...] = (
    (60, "seconds", "a minute"), (60, "minutes", "an hour"), (24, "hours", "a day"), (7, "days", "a week"), (12,
    "months", "a year"),
    (365, "days", "a year"), (52, "weeks", "a year"), (10, "years", "a decade"), (100, "years", "a century"), (1000,
    "years", "a millennium"),
    (10, "millimetres", "a centimetre"), (100, "centimetres", "a metre"), (1000, "metres", "a kilometre"), (1000,
    "grams", "a kilogram"),
    (1000, "kilograms", "a tonne"), (1000, "millilitres", "a litre"), (12, "inches", "a foot"), (3, "feet", "a yard"),
    (16, "ounces", "a pound"),
    (12, "pieces", "a dozen"), (8, "bits", "a byte"), (1024, "bytes", "a kibibyte"), (3600, "seconds", "an hour"),
    (1000, "millimetres", "a metre"),
    (100, "cents", "a euro"), (360, "degrees", "a circle"), (90, "degrees", "a right angle"), (4, "quarters",
    "a year"), (30, "minutes", "half an hour"),
    (48, "hours", "two days"), (14, "days", "two weeks"), (26, "letters", "the alphabet"), (12, "hours",
    "half a day"), (2, "pieces", "a pair"),
)  # fmt: skip

MONTHS: tuple[tuple[str, int], ...] = (
    ("January", 31), ("February", 28), ("March", 31), ("April", 30), ("May", 31), ("June", 30), ("July", 31),
    ("August", 31),
    ("September", 30), ("October", 31), ("November", 30), ("December", 31),
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PLANETS = ("Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune")

OPPOSITES = _rows(
    """hot: cold; big: small; up: down; left: right; day: night; black: white; fast: slow; happy: sad; old: new;
    good: bad; light: dark; high: low; long: short; rich: poor; wet: dry; open: closed; full: empty; hard: soft;
    loud: quiet; clean: dirty; early: late; easy: difficult; first: last; front: back; heavy: lightweight;
    inside: outside; true: false; strong: weak; thick: thin; wide: narrow; young: aged; near: far; on: off;
    win: lose; push: pull; start: stop; love: hate; war: peace; north: south; east: west; sweet: sour;
    sharp: blunt; deep: shallow; brave: cowardly; always: never; above: below; many: few; smooth: rough;
    tight: loose; alive: dead; question: answer; buy: sell"""
)
PLURALS = _rows(
    """mouse: mice; child: children; foot: feet; tooth: teeth; goose: geese; man: men; woman: women; ox: oxen;
    person: people; leaf: leaves; knife: knives; wolf: wolves; wife: wives; life: lives; half: halves;
    shelf: shelves; city: cities; baby: babies; story: stories; box: boxes; fox: foxes; bus: buses;
    dish: dishes; church: churches; potato: potatoes; tomato: tomatoes; hero: heroes; cat: cats; dog: dogs;
    house: houses; tree: trees; book: books; key: keys; boy: boys; fly: flies; cherry: cherries; loaf: loaves;
    thief: thieves; sheep: sheep; fish: fish; deer: deer"""
)
SHAPES: tuple[tuple[str, int], ...] = (
    ("triangle", 3), ("square", 4), ("rectangle", 4), ("quadrilateral", 4), ("pentagon", 5), ("hexagon", 6),
    ("heptagon", 7), ("octagon", 8),
    ("nonagon", 9), ("decagon", 10),
)  # fmt: skip
