"""The capability benchmarks: every prompt accepts a right reply and refuses a wrong one; no reply breaks a judge."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import LabError
from experiments.capability import judges
from experiments.capability.judges import CapabilityPrompt, judge, prompts

# Written by hand, in the order of the prompts: (a reply that must pass, a reply that must fail).
REPLIES = {
    "instruction": [
        ("The river runs past our house.", "The water runs past our house, by the rivers."),
        ("1, 2, 3, 4, 5", "1, 2, 4, 5"),
        ("Banana", "Banana is a fruit."),
        ("Red, green and blue.", "Red and blue."),
        ("Deep blue waves.", "The sea is deep."),
        ("Yes, because sleep lets the body rest.", "Sleep is good, yes."),
        ("Apple, apple, apple.", "Apple, apple."),
        ("What did you do this morning?", "I hope that you had a good day."),
        ("Apple.", "An apple is a fruit."),
        ("A, B, C, D, E", "A, B, C, E, D"),
        ("Grass is green. Done.", "Done: grass is green."),
        ("Monday, Tuesday, Wednesday, Thursday, Friday", "Monday, Tuesday, Thursday, Friday"),
        ("right left", "left right"),
        ("The dog caught the ball.", "The dog ran home."),
        ("Snow is soft and white.", "Snow is white and cold."),
        ("Cows and sheep.", "A cow and a tiger."),
        ("Yes.", "Yes, fire is hot."),
        ("The train leaves at noon.", "The train leaves at one."),
        ("5, 4, 3, 2, 1", "1, 2, 3, 4, 5"),
        ("Hello, Anna, nice to meet you.", "Hello, my friend."),
    ],
    "arithmetic": [
        ("2 + 3 = 5.", "2 + 3 = 6"),
        ("The answer is 27.", "12 + 15 is 26."),
        ("6 times 7 is 42", "6 * 7 = 48, not 42"),
        ("10-4=6", "10 - 4"),
        ("3 + 4 = 7 apples. Tom began with 3.", "Tom has 3 apples and buys 4."),
        ("48 / 6 = 8.0", "It is 9."),
        ("17", "71"),
        ("134 + 257 = 391", "134 + 257 = 381"),
        ("Half of 20 is 10.", "10 is half of 20"),
        ("5 x 5 = 25", "5 x 5 = 10"),
        ("100 - 37 = 63.", "100 - 37 = 73"),
        ("7 + 7 + 7 = 14 + 7 = 21", "7 + 7 = 14"),
        ("3 books cost $24.", "3 books cost $16."),
        ("0.1 * 50 = 5.00", "10% of 50 is 0.5"),
        ("3 * 3 = 9", "6"),
        ("13 x 12 = 156", "156 = 13 x 12"),
        ("100", "1,00"),
        ("15-9=6", "15-9=-6"),
        ("20 - 6 = 14 birds", "20 birds, 6 fly away"),
        ("125", "1,250"),
    ],
    "format": [
        ("Yes", "Yes, it is"),
        ('{"city": "Rome"}', 'Here it is: {"city": "Rome"}'),
        ("HELLO WORLD", "HELLO WORLD\nHELLO WORLD"),
        ("Blue.", "One color is blue."),
        ("- apple\n- pear\n- plum", "Fruits:\n- apple\n- pear\n- plum"),
        ("7", "seven"),
        ("1. cat\n2. dog", "1. cat\n1. dog"),
        ("cat, dog, horse", "cat\ndog\nhorse"),
        ("B)", "B) a whale"),
        ('{"name": "Ann", "age": 7}', '{"name": "Ann"}'),
        ("[sun]", "sun"),
        ("1999", "The year 1999"),
        ("book", "Book"),
        ("CATS SLEEP ALL DAY.", "Cats SLEEP ALL DAY."),
        ("2024-03-05", "5 March 2024"),
        ("[1, 2, 3]", '{"numbers": [1, 2, 3]}'),
        ("Rain falls on the roof.", "Rain falls. It is wet."),
        ("*stop*", "stop"),
        ("Norway", "New Zealand is a country"),
        ("up\ndown", "up, down"),
    ],
    "knowledge": [
        ("The capital of France is Paris.", "The capital of France is Lyon."),
        ("Jupiter", "Saturn"),
        ("It is Ulaanbaatar.", "It is Beijing."),
        ("William Shakespeare wrote it.", "Charles Dickens wrote it."),
        ("A spider has eight legs.", "A spider has 18 legs."),
        ("H2O", "CO2"),
        ("The Swedish krona.", "The euro."),
        ("Portuguese, mostly.", "Spanish."),
        ("Leonardo da Vinci", "Michelangelo"),
        ("The symbol is Fe.", "A few say Ir."),
        ("There are 7 days.", "There are 70 days."),
        ("Herman Melville", "Mark Twain"),
        ("The Pacific Ocean.", "The Atlantic Ocean."),
        ("Canberra", "Sydney"),
        ("At 0°C, which is 32°F.", "At -18.0°C."),
        ("It ended in 1945.", "It ended in 1918."),
        ("The cheetah.", "The lion."),
        ("The Volga.", "The Danube."),
        ("The heart does.", "The lungs do."),
        ("George Washington.", "Abraham Lincoln."),
    ],
}
# No deadline: each example runs all 80 judges, and the machine may be shared.
quick = settings(max_examples=50, deadline=None)
BY_ID = {p.prompt_id: p for p in prompts()}
CASES = [(f"{c}-{i:02d}", *pair) for c, pairs in REPLIES.items() for i, pair in enumerate(pairs, start=1)]


def asks(name: str, *arguments: str | int) -> CapabilityPrompt:
    """A prompt with the given judge."""
    return replace(BY_ID["format-01"], judge=name, arguments=arguments)


@pytest.mark.parametrize(("prompt_id", "right", "wrong"), CASES, ids=[case[0] for case in CASES])
def test_every_prompt_tells_right_from_wrong(prompt_id, right, wrong):
    """A judge that accepts or refuses everything would make retention meaningless."""
    assert judge(BY_ID[prompt_id], right)
    assert not judge(BY_ID[prompt_id], wrong)
    assert not judge(BY_ID[prompt_id], "")


def test_counts_and_ids():
    """Four categories of 20, every id and every prompt once, every case above used."""
    everything = prompts()
    assert Counter(p.category for p in everything) == dict.fromkeys(judges.CATEGORIES, 20)
    assert len({p.prompt_id for p in everything}) == len({p.prompt for p in everything}) == 80
    assert {case[0] for case in CASES} == set(BY_ID)
    assert all(4 <= p.max_new_tokens <= 32 for p in everything)


def test_a_smaller_scale_takes_the_first_prompts():
    """Results of smoke and demo must be about a subset of the full benchmark, not about other prompts."""
    assert prompts("format", 4) == prompts("format")[:4]
    assert [p.prompt_id for p in prompts(per_category=1)] == [f"{c}-01" for c in judges.CATEGORIES]


@pytest.mark.parametrize(("category", "count"), [("poetry", 20), ("format", 0), ("format", 21)])
def test_a_wrong_request_is_refused(category, count):
    """A misspelt category must not give an empty benchmark."""
    with pytest.raises(LabError):
        prompts(category, count)


def test_every_judge_is_used():
    """A judge without a prompt would be dead code, a prompt without a judge a crash in the middle of a run."""
    assert {p.judge for p in prompts()} == set(judges.JUDGES)


@quick
@given(st.text(max_size=80))
def test_no_reply_breaks_a_judge(reply):
    """A model can write anything; a crash would turn its answer into a failed trial."""
    for prompt in prompts():
        assert judge(prompt, reply) in (True, False)


@quick
@given(st.text(alphabet='0123456789-=,.[]{}"\n ABab', max_size=60))
def test_no_reply_of_marks_and_digits_breaks_a_judge(reply):
    """Numbers, brackets and line ends reach the branches that plain random text rarely does."""
    for prompt in prompts():
        assert judge(prompt, reply) in (True, False)


@pytest.mark.parametrize("reply", ["[" * 100_000, "9" * 100_000, "\n" * 20_000, "=" * 20_000, "\x00", "\ud800"])
def test_extreme_replies(reply):
    """Deep nesting, huge numbers and lone surrogates are refused, not raised."""
    for prompt in prompts():
        assert not judge(prompt, reply)


@quick
@given(st.integers(0, 10**9), st.sampled_from(["{}", "It is {:,}.", "1 + 1 = {}, I think", "about 3 less: {}.0"]))
def test_a_number_is_found_in_any_dress(number, frame):
    """Thousands commas, a final full stop, a decimal zero and words around it do not change an answer."""
    reply = frame.format(number)
    assert judge(asks("exact_number", str(number)), reply)
    assert not judge(asks("exact_number", str(number + 1)), reply)


@quick
@given(st.text(alphabet="abc", min_size=1, max_size=8), st.text(alphabet="abc", min_size=1, max_size=4))
def test_words_are_whole(word, more):
    """A word inside a longer one is another word: "Norway" does not mention a way."""
    assert judge(asks("contains_word", word), f"Say {word.upper()}, please")
    assert not judge(asks("contains_word", word), f"Say {word}{more}, please")


def test_held_out_texts():
    """Twelve different paragraphs of 60 to 90 words in plain characters, so that perplexity reads ordinary prose."""
    texts = judges.HELD_OUT
    assert len(set(texts)) == 12
    for text in texts:
        assert 60 <= len(text.split()) <= 90
        assert text.isascii()
        assert text.endswith(".")
        assert "\n" not in text
        assert "  " not in text
