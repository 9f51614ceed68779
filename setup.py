"""Install fairseq_electra beside fairseq: `pip install -e .`, extras in brackets."""

from pathlib import Path

from setuptools import find_packages, setup

# Upstream fairseq does not import on Python 3.11 and later. Its main branch with that mended is
# ve-fairseq, in wheels, and elsewhere fairseq-fixed, which pip compiles. On 3.10 the plugin runs
# beside whichever fairseq is installed already.
X86_LINUX = 'sys_platform == "linux" and platform_machine == "x86_64"'
OTHERS = '(sys_platform != "linux" or platform_machine != "x86_64")'
FAIRSEQ = [
    f've-fairseq==0.12.3; python_version >= "3.11" and python_version < "3.13" and {X86_LINUX}',
    'fairseq-fixed==0.12.3.1; python_version >= "3.13"',
    f'fairseq-fixed==0.12.3.1; python_version >= "3.11" and python_version < "3.13" and {OTHERS}',
]

setup(
    name="fairseq-electra",
    version="0.1.0",
    description="ELECTRA pre-training for fairseq: task, criterion, model and optimizers",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.10,<3.14",  # no fairseq imports on 3.14
    packages=find_packages(include=["fairseq_electra", "fairseq_electra.*"]),
    package_data={"fairseq_electra": ["config/*.yaml", "pretrained/*/*"]},
    entry_points={"console_scripts": ["fairseq-electra = fairseq_electra.__main__:main"]},
    install_requires=[
        *FAIRSEQ,
        "torch>=2.6",  # before that weights_only=True could run code (CVE-2025-32434)
        "numpy",
        "sentencepiece>=0.2.3",  # tells which characters a piece stands for (offset_mapping)
        "tokenizers",
    ],
    extras_require={
        "test": [
            *("pytest", "pytest-xdist", "hypothesis", "ruff"),
            *("scikit-learn", "seqeval", "matplotlib"),
        ],
        "plot": ["matplotlib"],  # of `fairseq-electra compare`
        "hub": ["captum", "sentencex", "rouge-score"],  # explanations, summaries and their score
        "finetune": ["seqeval"],  # entity-level F1 of --task electra_tagging
        # conversion from and to Hugging Face; from the authors' TensorFlow checkpoints
        "hf": ["safetensors", "transformers", "protobuf"],
        "tf": ["tensorflow-cpu"],
        "tensorboard": ["tensorboardX"],
        "wandb": ["wandb"],
    },
)
