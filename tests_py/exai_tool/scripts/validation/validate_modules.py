"""Imports what a release has to have, by name."""

import importlib

NEEDED = ("config.base", "config.migration", "configurations.file_handling_guidance")
OPTIONAL = ["tools.workflow.retired", "tools.workflow.expert_analysis"]


def check():
    for name in NEEDED:
        importlib.import_module(name)
    return __import__("tools.workflow", fromlist=["WorkflowTool"]).WorkflowTool


if __name__ == "__main__":
    check()
