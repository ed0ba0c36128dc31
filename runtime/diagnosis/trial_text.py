"""A short English text, written for this purpose, that any model of English foretells better than chance."""

TEXT = """\
When the rain had stopped, the old man opened the door of his house and looked at the garden. The apple trees were \
still wet, and under one of them sat a small grey cat that he had never seen before. "Good morning," he said. "Where \
do you come from, and what is your name?" The cat looked at him for a moment and then began to wash its face, as if \
it had not heard a word. The man laughed, went back into the kitchen, and came out again with a bowl of milk, which he \
put down on the grass. For a long time nothing happened. Then the cat stood up, walked slowly across the garden, and \
drank the milk until there was none left in the bowl.

From that day on the cat came every morning at the same hour. In the winter, when the snow lay high on the roof and \
the water in the well was frozen, it slept in front of the fire, and the man talked to it about the years when he was \
young and lived in a big city by the sea. He told it about the ships that came into the harbour, about his brother, \
who had been a captain, and about the woman who had sold bread at the corner of the street. The cat never answered, \
but the man did not mind. It is good, he thought, to have somebody who listens.
"""
