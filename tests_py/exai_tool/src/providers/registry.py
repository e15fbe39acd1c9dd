import os


class ModelProviderRegistry:
    @classmethod
    def get_provider_for_model(cls, model):
        from src.providers.glm import GLMModelProvider
        from src.providers.kimi import KimiModelProvider

        if model.startswith("glm"):
            return GLMModelProvider(os.getenv("GLM_API_KEY", ""))
        return KimiModelProvider(os.getenv("KIMI_API_KEY", ""))
