"""Training: clips in; trained networks, their measured features and reports out.

    compute/       one step on the device: precision, optimiser, schedule, processes
    models/        the backbones, their heads, and weights from outside
    objective/     what is learned: the terms of the loss, and what clips are compared with
    runs/          a run folder: settings, checkpoints, environment, teachers
    loop/          the trainer
    study/         many runs, side by side
    evaluation/    pretext accuracy, linear probe, retrieval, fine-tuning
    preview/       what the network will be fed, as pictures
    report/        curves and tables of several runs
    exchange/      trained networks for other programs

`__init__.pyi` lists the public names. They load their modules when first used: `--help` does not wait for torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
