"""Tables of raw samples with gaps, and batches of them."""

from fusion_engine.data.batches import Batches, Place, collate
from fusion_engine.data.table import Prepared, Table

__all__ = ["Batches", "Place", "Prepared", "Table", "collate"]
