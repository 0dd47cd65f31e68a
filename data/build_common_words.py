"""Count how many questions use a word: `python -m attrib.data.build_common_words FILE … > …`.

`common_words.txt` came from the questions without a known subject in the files named in
`benchmarks/RESULTS.md`. Only counts of single words leave them.
"""

import sys
from collections import Counter
from pathlib import Path

from attrib.data.parsing import parse_files
from attrib.data.wording import split_words

LEAST = 25  # questions: below that all words weigh the same


def main() -> None:
    """Print the number of questions, and the common words with theirs."""
    texts = [
        draft.text
        for path in map(Path, sys.argv[1:])
        for draft in parse_files(path.stem, [path]).drafts
        if draft.subject is None
    ]
    counts = Counter(word for text in texts for word in set(split_words(text)))
    print("questions:", len(texts))
    for word, count in counts.most_common():
        if count >= LEAST and not word.isdigit():
            print(word, count)


if __name__ == "__main__":
    main()
