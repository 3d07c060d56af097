"""Serving adapter folders in vLLM: the plugin that vLLM loads, and what it keeps of an adapter."""
