from .lifecycle_sync import LifecycleSync

__all__ = ["LifecycleSync"]
