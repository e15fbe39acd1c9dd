import config as settings

from . import base


class ExpertAnalysis(base.WorkflowTool):
    timeout = settings.TimeoutConfig.EXPERT_ANALYSIS_TIMEOUT_SECS
