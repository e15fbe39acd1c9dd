from .duplicate_detector import DuplicateDetector
from .hashing_service import HashingService

__all__ = ["DuplicateDetector", "HashingService"]
