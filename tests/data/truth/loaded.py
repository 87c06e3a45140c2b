"""Loading of the truth that several test files need."""

from wsseg.data.file_memory import FileMemory
from wsseg.data.images import load_images
from wsseg.data.truth.loading import load_truth


def truth_of(data):
    memory = FileMemory()
    return load_truth(data, load_images(data, "train", memory), memory)
