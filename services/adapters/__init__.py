"""Approval gates in other people's agent frameworks: one module, and one extra, a framework.

    pip install 'fanwire[ag-ui]'           services.adapters.ag_ui
    pip install 'fanwire[langgraph]'       services.adapters.langgraph
    pip install 'fanwire[openai-agents]'   services.adapters.openai_agents

A module imports its framework, and nothing else of ours imports the module.
"""
