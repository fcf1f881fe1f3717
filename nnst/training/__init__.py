"""Crops -> a trained network: batches, augmentation, loss, one epoch, validation. Plain torch.

`stores` reads crop sets, `augmentation` draws one window out of a crop, `batches` puts windows
together, `epochs` takes the steps and measures, `operating` fits calibration and threshold.
"""
