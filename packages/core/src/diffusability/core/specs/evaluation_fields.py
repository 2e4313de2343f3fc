"""The fields of ``EvaluationBatch`` in groups: by what has to be there, or computed, to fill them. Free of torch."""

#: What the encoder and the decoder compute of real images.
ENCODED = frozenset({"posterior", "latents", "reconstruction"})
#: What there is one of for each real image, and so only as many as the data has.
OF_IMAGES = frozenset({"images", "labels"}) | ENCODED
#: Real images of the other split.
HELD_OUT = frozenset({"held_out"})
#: What a sampler makes, in no relation to real images.
GENERATED = frozenset({"generated", "generated_labels"})
#: What makes them.
OF_DENOISERS = frozenset({"diffusion_model", "sampler"})
#: Models, which every rank has by itself and which do not travel with a batch.
MODELS = frozenset({"autoencoder"}) | OF_DENOISERS
#: Models that an evaluator which reads them calls by itself.
CALLED_MODELS = MODELS - {"sampler"}
#: Fields that depend on how an autoencoder computes.
OF_AUTOENCODERS = ENCODED | {"autoencoder"}
#: Fields that depend on how samples are made.
OF_SAMPLES = GENERATED | OF_DENOISERS
#: Fields that depend on the sampler.
OF_SAMPLERS = GENERATED | {"sampler"}
#: What there is where an autoencoder is evaluated, and where a denoiser is.
OF_AUTOENCODER_EVALUATION = OF_IMAGES | {"autoencoder"}
OF_DENOISER_EVALUATION = OF_AUTOENCODER_EVALUATION | OF_SAMPLES
#: What an evaluate stage has beside, and an evaluation during training lacks: there the other split is not opened.
OF_EVALUATE_STAGES = HELD_OUT
