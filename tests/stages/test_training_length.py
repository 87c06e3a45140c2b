from wsseg.stages.training_length import TrainingLength, training_length


def test_epochs_of_the_config_are_passes_over_the_images():
    assert training_length(3, 100, 16, usual_epochs=8, fewest_steps=320) == TrainingLength(3, 100)
    assert TrainingLength(3, 100).steps(16) == 18


def test_small_sets_are_passed_more_often():
    length = training_length(None, 60, 16, usual_epochs=8, fewest_steps=320)
    assert length == TrainingLength(8, 640) and length.steps(16) == 320
    assert training_length(None, 5000, 16, usual_epochs=8, fewest_steps=320) == TrainingLength(8, 5000)


def test_an_epoch_has_at_least_one_step():
    assert TrainingLength(2, 3).steps(16) == 2
