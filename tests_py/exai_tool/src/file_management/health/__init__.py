from .health_checker import HealthChecker

__all__ = ["HealthChecker"]
