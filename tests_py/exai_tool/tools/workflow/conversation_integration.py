from ..workflow.base import WorkflowTool


class ConversationTool(WorkflowTool):
    def limits(self):
        from config import FileManagementConfig, TimeoutConfig

        return TimeoutConfig.get_model_timeout("slow-model", 300), FileManagementConfig.get_provider_limits()
