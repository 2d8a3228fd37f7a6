"""The prompts of P3's capability benchmarks and the held-out paragraphs: data only, written for this project.

A row is (prompt, judge, arguments of the judge); the judges are in capability.py. Easy and hard prompts are mixed, so
that the first k of a category are a fair small version of it. Changed data needs a new `capability.version`.
"""

from __future__ import annotations

Row = tuple[str, str, tuple[str | int, ...]]

# Tokens, the same for a whole category, because a category is generated as one batch.
MAX_NEW_TOKENS = {"instruction": 32, "arithmetic": 32, "format": 32, "knowledge": 24}

INSTRUCTION: tuple[Row, ...] = (
    ("Write a sentence that contains the word river.", "contains_word", ("river",)),
    ("Count from 1 to 5.", "in_order", ("1", "2", "3", "4", "5")),
    ("Repeat this word and nothing else: banana", "exact_text", ("banana",)),
    (
        "Name three colors.",
        "names_of",
        (
            3,
            "red",
            "blue",
            "green",
            "yellow",
            "orange",
            "purple",
            "pink",
            "black",
            "white",
            "brown",
            "gray",
            "grey",
            "violet",
        ),
    ),
    ("Write exactly three words about the sea.", "word_count", (3,)),
    ("Start your reply with the word Yes and say why sleep is good.", "starts_with", ("yes",)),
    ("Write the word apple three times.", "word_times", ("apple", 3)),
    ("Ask me one question about my day.", "ends_with", ("?",)),
    ("Which of these is a fruit: chair or apple? Reply with one word.", "exact_text", ("apple",)),
    ("Write the first five letters of the alphabet.", "in_order", ("a", "b", "c", "d", "e")),
    ("End your reply with the word done. What color is grass?", "ends_with", ("done",)),
    ("List the weekdays from Monday to Friday.", "in_order", ("monday", "tuesday", "wednesday", "thursday", "friday")),
    ("Write these two words in the opposite order: left right", "exact_text", ("right left",)),
    ("Write a short sentence with both the words dog and ball.", "contains_all", ("dog", "ball")),
    (
        "Say what snow is like. Do not use the word cold.",
        "avoids",
        ("cold", "white", "soft", "ice", "icy", "flakes", "fluffy", "frozen", "wet", "light"),
    ),
    (
        "Name two animals that live on a farm.",
        "names_of",
        (
            2,
            "cow",
            "cows",
            "pig",
            "pigs",
            "horse",
            "horses",
            "sheep",
            "goat",
            "goats",
            "chicken",
            "chickens",
            "hen",
            "hens",
            "duck",
            "ducks",
            "cattle",
            "donkey",
            "turkey",
        ),
    ),
    ("Answer with only yes or no: Is fire hot?", "yes_or_no", ("yes",)),
    ("Copy this sentence exactly: The train leaves at noon.", "exact_text", ("the train leaves at noon",)),
    ("Count down from 5 to 1.", "in_order", ("5", "4", "3", "2", "1")),
    ("Greet my friend Anna by her name.", "contains_word", ("anna",)),
)

ARITHMETIC: tuple[Row, ...] = (
    ("What is 2 + 3?", "exact_number", ("5",)),
    ("What is 12 + 15?", "exact_number", ("27",)),
    ("What is 6 times 7?", "exact_number", ("42",)),
    ("What is 10 - 4?", "exact_number", ("6",)),
    ("Tom has 3 apples and buys 4 more. How many apples does he have?", "exact_number", ("7",)),
    ("What is 48 / 6?", "exact_number", ("8",)),
    ("What is 9 + 8?", "exact_number", ("17",)),
    ("What is 134 + 257?", "exact_number", ("391",)),
    ("What is half of 20?", "exact_number", ("10",)),
    ("What is 5 x 5?", "exact_number", ("25",)),
    ("What is 100 - 37?", "exact_number", ("63",)),
    ("What is 7 + 7 + 7?", "exact_number", ("21",)),
    ("A book costs 8 dollars. How many dollars do 3 books cost?", "exact_number", ("24",)),
    ("What is 10% of 50?", "exact_number", ("5",)),
    ("What is 3 squared?", "exact_number", ("9",)),
    ("What is 13 x 12?", "exact_number", ("156",)),
    ("What is 50 + 50?", "exact_number", ("100",)),
    ("What is 15 - 9?", "exact_number", ("6",)),
    ("There are 20 birds and 6 fly away. How many birds are left?", "exact_number", ("14",)),
    ("What is 1000 / 8?", "exact_number", ("125",)),
)

FORMAT: tuple[Row, ...] = (
    ("Is water wet? Reply with only the word Yes or No.", "yes_or_no", ("yes",)),
    ('Reply with only this JSON object: {"city": "Rome"}', "is_json_with_keys", ("city",)),
    ("Write HELLO WORLD in capital letters and nothing else.", "matches", (r"HELLO WORLD\.?",)),
    ("Name one color. Reply with one word only.", "one_word", ()),
    ("List three fruits. Put each on its own line and start each line with a dash.", "bullet_count", (3,)),
    ("Write the number seven as a digit. Reply with the digit only.", "matches", (r"7\.?",)),
    ("List two pets as a numbered list, 1. and 2., and write nothing else.", "numbered_list", (2,)),
    ("Write the names of three animals on one line, separated by commas.", "comma_list", (3,)),
    ("Which is bigger?\nA) an ant\nB) a whale\nReply with the letter only.", "choice_letter", ("b",)),
    ('Write a JSON object with the keys "name" and "age". Write only the JSON.', "is_json_with_keys", ("name", "age")),
    ("Write the word sun in square brackets, like [moon].", "matches", (r"\[sun\]",)),
    ("Write a four-digit year. Reply with the year only.", "matches", (r"[0-9]{4}\.?",)),
    ("Write the word book in lowercase letters and nothing else.", "matches", (r"book",)),
    ("Write a short sentence about cats in capital letters only.", "all_uppercase", (3,)),
    ("Write the date 5 March 2024 in the form YYYY-MM-DD. Write only the date.", "matches", (r"2024-03-05",)),
    ("Write a JSON list of the numbers 1, 2 and 3. Write only the list.", "is_json_list", (3,)),
    ("Write one sentence about rain.", "sentence_count", (1,)),
    ("Write the word stop between two stars, like *go*.", "matches", (r"\*stop\*",)),
    ("Name a country. Reply with one word only.", "one_word", ()),
    ("Write two lines: first the word up, then the word down.", "matches", (r"(?i)up\.?\s*\n\s*down\.?",)),
)

KNOWLEDGE: tuple[Row, ...] = (
    ("What is the capital of France?", "contains_word", ("paris",)),
    ("Which planet is the largest in our solar system?", "contains_word", ("jupiter",)),
    ("What is the capital of Mongolia?", "contains_word", ("ulaanbaatar", "ulan bator", "ulan-bator")),
    ("Who wrote Romeo and Juliet?", "contains_word", ("shakespeare",)),
    ("How many legs does a spider have?", "contains_word", ("8", "eight")),
    ("What is the chemical formula of water?", "contains_word", ("h2o", "h₂o")),
    ("What is the currency of Sweden?", "contains_word", ("krona", "kronor", "sek")),
    ("What language do most people speak in Brazil?", "contains_word", ("portuguese",)),
    ("Who painted the Mona Lisa?", "contains_word", ("leonardo", "da vinci")),
    ("What is the chemical symbol of iron?", "contains_word", ("fe",)),
    ("How many days are in a week?", "contains_word", ("7", "seven")),
    ("Who wrote the novel Moby-Dick?", "contains_word", ("melville",)),
    ("What is the largest ocean on Earth?", "contains_word", ("pacific",)),
    ("What is the capital of Australia?", "contains_word", ("canberra",)),
    ("At what temperature in degrees Celsius does water freeze?", "contains_word", ("0", "zero")),
    ("In which year did the Second World War end?", "contains_word", ("1945",)),
    ("Which animal is the fastest on land?", "contains_word", ("cheetah", "cheetahs")),
    ("What is the longest river in Europe?", "contains_word", ("volga",)),
    ("Which organ pumps blood through the body?", "contains_word", ("heart",)),
    ("Who was the first president of the United States?", "contains_word", ("washington",)),
)

ROWS: dict[str, tuple[Row, ...]] = {
    "instruction": INSTRUCTION,
    "arithmetic": ARITHMETIC,
    "format": FORMAT,
    "knowledge": KNOWLEDGE,
}

HELD_OUT: tuple[str, ...] = (
    "The bakery on our street opens before sunrise. By five the ovens are already warm, and the first trays of rolls "
    "come out while most of the neighbourhood is asleep. The baker leaves the back door open in summer, so the smell "
    "drifts down to the bus stop. Drivers on the early shift have learned to arrive a few minutes ahead of time, buy "
    "something wrapped in paper, and eat it before the engine starts.",
    "My grandmother kept bees for thirty years and never once called it a hobby. She wrote down the weather, the "
    "first blossoms, and the weight of every hive in a row of small notebooks. When a colony died in a wet spring she "
    "blamed herself for weeks. When the honey was good she gave most of it away in old jam jars, with labels that the "
    "grandchildren had drawn.",
    "A bicycle is easier to keep in order than most people think. The chain wants a little oil after rain, the tyres "
    "should be firm when pressed with a thumb, and the brakes must bite before the lever touches the bar. Ten minutes "
    "each month are enough. What ruins a bicycle is not distance but neglect: a winter outside, a loose screw, a "
    "squeak that nobody wanted to hear.",
    "The ferry to the island runs four times a day, unless the wind comes from the north. Then the captain waits, and "
    "everyone on the quay waits with him. Islanders use the time to talk, to load crates of vegetables, or to sleep in "
    "their cars. Visitors look at their watches. By evening the water is usually flat again, and the last boat leaves "
    "full and a little late.",
    "To paint a room well, spend most of the day not painting. Move the furniture, cover the floor, wash the walls, "
    "fill the cracks and let them dry. Tape along the window frames saves an hour of scraping later. The first coat "
    "always looks disappointing, patchy and thin. The second one hides that, provided the first was allowed to dry "
    "overnight and nobody leaned against it on the way out.",
    "Our town library lends more than books. There is a shelf with board games, a cupboard with cake tins, and a "
    "drill that half the street has borrowed at some point. The librarian says that people come for the drill and "
    "leave with a novel. On Thursday afternoons retired teachers help children with homework at the long table by the "
    "window, and the room is louder than any library is supposed to be.",
    "Swimming in a cold lake is mostly a matter of breathing. The first seconds take the air out of the chest, and "
    "the body wants to climb straight back onto the jetty. If you breathe out slowly and keep still, the shock passes "
    "within a minute. After that the water feels almost mild. Stay near the shore, never go alone, and get dressed "
    "at once afterwards, because the real chill arrives later.",
    "The old clock in the station hall was wrong for as long as anyone could remember. It ran exactly nine minutes "
    "fast, and regular passengers subtracted without thinking. When the railway finally repaired it, dozens of people "
    "missed their trains in the first week. There were letters to the newspaper. Somebody proposed setting it wrong "
    "again. In the end a small sign was hung below it: this clock now shows the correct time.",
    "Tomatoes grown on a balcony need three things: light, steady water, and something to climb. A south wall gives "
    "the first. The second is harder, because a pot dries out within a single hot day, and a plant that swings "
    "between drought and flood splits its fruit. For the third a broom handle will do. Pinch out the side shoots in "
    "June, and by August there will be more than one household can eat.",
    "The choir meets in the school gym because the church has no heating. Forty people bring folding chairs and thick "
    "socks. Few of them read music, so they learn by ear, line by line, the basses first. Mistakes are sung loudly "
    "and laughed at. Before the winter concert everyone is nervous for a month. Then the lights go down, the first "
    "chord holds, and even the tired parents at the back sit up.",
    "When the storm took out the power, the whole building met on the stairs. Neighbours who had nodded to each other "
    "for years learned names by candlelight. Somebody had a gas stove and made tea for three floors. The children "
    "carried messages and felt important. By midnight the lamps came back, one window after another, and people "
    "returned to their flats. The next morning the greetings in the lift were noticeably warmer.",
    "Good bread dough teaches patience. Mixed in the evening from flour, water, salt and very little yeast, it looks "
    "like nothing much. During the night it swells, loosens, and begins to smell faintly sour. In the morning it only "
    "needs folding a few times before it goes into a hot pot. Rushing it with more yeast works, in a way, but the "
    "crust stays pale and the loaf is stale by supper.",
)
