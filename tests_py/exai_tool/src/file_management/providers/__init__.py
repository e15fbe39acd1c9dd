from src.file_management.providers.base import FileProviderInterface
from src.file_management.providers.glm_provider import GLMFileProvider
from src.file_management.providers.kimi_provider import KimiFileProvider

__all__ = ["FileProviderInterface", "GLMFileProvider", "KimiFileProvider"]
