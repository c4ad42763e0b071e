"""A price of jax: an array of float32."""

import jax
import jax.numpy as jnp


def simulate(volatility, seed, steps=50):
    noise = jax.random.normal(jax.random.key(seed), (steps,))
    return {"price": jnp.exp(jnp.cumsum(volatility * noise - volatility**2 / 2))}
