"""Text from a model: tokens, sampling, stop strings, chats."""
