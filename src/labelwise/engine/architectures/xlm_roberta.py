"""XLM-RoBERTa: RoBERTa with another vocabulary, under the same names."""

from labelwise.engine.architectures.roberta import describe

__all__ = ["describe"]
