"""From a gradient to a step: clipping, optimizers and schedules of the learning rate, as torch's."""

import numpy as np

from bancada.networks.kernel import records
from bancada.networks.kernel.compiled import compiled
from bancada.networks.kernel.functions import cos_pi
from bancada.networks.kernel.records import ONE, ONE_64, ZERO, f32, f64
from bancada.networks.kernel.sums import dot

CLIP_EPS, HALF_64 = f32(1e-6), f64(0.5)


@compiled
def clip(state, norm, p):
    """Shrink the whole gradient to `norm`, where its norm is larger. Return its norm before. Pascanu et al. 2013."""
    length = np.sqrt(dot(state, records.GRADIENTS, state, records.GRADIENTS, state.shape[1], p))
    factor = norm / (length + CLIP_EPS)
    if factor < ONE:
        for k in range(state.shape[1]):
            state[records.GRADIENTS, k] = state[records.GRADIENTS, k] * factor
    return length


@compiled
def sgd(parameters, gradients, velocity, settings, rate):
    """As torch.optim.SGD."""
    momentum, weight_decay = f32(settings.momentum), f32(settings.weight_decay)
    if momentum == ZERO and weight_decay == ZERO:
        for k in range(parameters.size):
            parameters[k] = parameters[k] - rate * gradients[k]
    else:
        ahead, own = (momentum, ONE) if settings.nesterov else (ONE, ZERO)
        for k in range(parameters.size):
            g = gradients[k] + weight_decay * parameters[k]
            velocity[k] = momentum * velocity[k] + g
            parameters[k] = parameters[k] - rate * (own * g + ahead * velocity[k])


@compiled
def adam(parameters, gradients, memories, settings, rate, powers):
    """As torch.optim.Adam and AdamW. powers: the betas' for this update. Kingma & Ba 2015; Loshchilov & Hutter 2019."""
    mean, square = memories
    beta1, beta2, eps = f32(settings.beta1), f32(settings.beta2), f32(settings.eps)
    rest1, rest2 = f32(ONE_64 - settings.beta1), f32(ONE_64 - settings.beta2)
    step, root = f32(rate / (ONE_64 - powers[0])), f32(np.sqrt(ONE_64 - powers[1]))
    decay, shrunk = f32(settings.weight_decay), ONE
    if settings.optimizer == records.ADAMW:
        decay, shrunk = ZERO, f32(ONE_64 - rate * settings.weight_decay)
    for k in range(parameters.size):
        g = gradients[k] + decay * parameters[k]
        mean[k] = beta1 * mean[k] + rest1 * g
        square[k] = beta2 * square[k] + rest2 * (g * g)
        parameters[k] = parameters[k] * shrunk - step * mean[k] / (np.sqrt(square[k]) / root + eps)


@compiled
def update(settings, state, rate, powers):
    """Change the parameters by their gradient. powers: of Adam's betas, for this update."""
    parameters, gradients = state[records.PARAMETERS], state[records.GRADIENTS]
    if settings.optimizer == records.SGD:
        sgd(parameters, gradients, state[records.MEMORY_1], settings, f32(rate))
    else:
        adam(parameters, gradients, (state[records.MEMORY_1], state[records.MEMORY_2]), settings, rate, powers)


@compiled
def scheduled(settings, rate, k):
    """Return the learning rate for update (or epoch) k = 0, 1, ... from the one before it."""
    if settings.schedule == records.STEP and k > 0 and k % settings.step_size == 0:
        return rate * settings.gamma
    if settings.schedule == records.INVERSE_TIME:  # multiplied before the first, too
        return rate * (ONE_64 / (ONE_64 + settings.decay * f64(k + 1)))
    if settings.schedule == records.COSINE:  # Loshchilov & Hutter 2017
        turn = k % (2 * settings.period)
        turn = 2 * settings.period - turn if turn > settings.period else turn
        height = (ONE_64 + cos_pi(f64(turn) / f64(settings.period))) * HALF_64
        return settings.lowest + (settings.rate - settings.lowest) * height
    return rate
