from .recovery_manager import RecoveryManager

__all__ = ["RecoveryManager"]
