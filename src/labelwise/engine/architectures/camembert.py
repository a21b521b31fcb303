"""CamemBERT: RoBERTa for French, under the same names."""

from labelwise.engine.architectures.roberta import describe

__all__ = ["describe"]
