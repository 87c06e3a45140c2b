"""The texts that describe classes and backgrounds to CLIP and SAM 3."""

from dataclasses import dataclass

from wsseg.config import setting
from wsseg.errors import ConfigError, StageError, nearest
from wsseg.labels import ClassMap

TEMPLATES = ("a clean origami {}.",)
BACKGROUND_WORDS = (
    "ground", "land", "grass", "tree", "building", "wall", "sky", "lake", "water", "river", "sea", "railway", "railroad",
    "keyboard", "helmet", "cloud", "house", "mountain", "ocean", "road", "rock", "street", "valley", "bridge", "sign",
)  # fmt: skip


@dataclass(frozen=True)
class Prompts:
    """Texts for the classes and the background. The defaults are those of CLIP-ES (Lin et al. 2023, section 3.3).

    Args:
        names: phrase by class name, for names that say little or have several meanings, such as
            ``{ crane = "crane bird" }``; other classes are described by their names.
        background: things that surround the objects; no class may be among them.
        templates: sentences in which ``{}`` is replaced by each phrase; their embeddings are averaged.
    """

    names: dict[str, str] = setting({})
    background: tuple[str, ...] = setting(BACKGROUND_WORDS)
    templates: tuple[str, ...] = setting(TEMPLATES)

    def __post_init__(self) -> None:
        if not self.templates or any(template.count("{}") != 1 for template in self.templates):
            raise ConfigError(f"templates: found {list(self.templates)}; expected: sentences with one {{}} each")
        if not self.background:
            raise ConfigError("background: found []; expected: at least one word, such as those of the default")
        if any(not word.strip() for word in (*self.background, *self.names.values())):
            raise ConfigError("prompts: a phrase is empty; expected: words")


def phrases(prompts: Prompts, classes: ClassMap) -> tuple[str, ...]:
    """Return the phrase of each class, in the order of the classes.

    Raises:
        StageError: a phrase is given for an unknown class.
    """
    for name in prompts.names:
        if name not in classes.names:
            raise StageError(
                f"prompts.names: found {name!r}, which is no class; expected: {', '.join(classes.names)}"
                f"{nearest(name, classes.names)}"
            )
    return tuple(prompts.names.get(name, name.replace("_", " ")) for name in classes.names)
