"""The study of all scenarios on reward models that were trained from a language model."""
