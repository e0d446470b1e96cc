"""One step of training and one of validation, compiled, under a strategy."""

import tensorflow as tf
import tf_keras as keras

from ustoolkit.recipe.training import TrainingSettings
from ustoolkit.training.averaging import WeightAverage
from ustoolkit.training.optimizers import added_decay
from ustoolkit.training.tasks import Task


class Step:
    """Steps of training and of validation.

    Each device takes its share of a batch in `accumulation` parts one after the other, to save memory, and each of
    these in `branches` parts side by side, to use the cores of a CPU. Losses are divided by the images of the whole
    batch, so that the gradients add up to those of the batch at once; but for batch normalisation, whose statistics are
    of a part.

    Args:
        model: that is trained.
        heads: the same with all outputs that are supervised.
        task: batches and losses.
        settings: of the training.
        optimizer: built for the model's weights.
        average: of the weights; None for none.
        strategy: that all of these were made in.
        accumulation: parts one after the other, at least 1.
    """

    def __init__(
        self,
        model: keras.Model,
        heads: keras.Model,
        task: Task,
        settings: TrainingSettings,
        optimizer: keras.optimizers.Optimizer,
        average: WeightAverage | None,
        strategy: tf.distribute.Strategy,
        accumulation: int,
    ) -> None:
        self.accumulation = accumulation
        self._model, self._heads, self._task, self._settings = model, heads, task, settings
        self._optimizer, self._average, self._strategy = optimizer, average, strategy
        self._scaled = isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)
        self._parts = accumulation * settings.branches
        self._gradients = self._part_gradients
        if settings.xla:
            self._gradients = tf.function(self._part_gradients, jit_compile=True)

    @tf.function
    def train(self, batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Takes one step, on a batch of all devices; the mean loss of its images, float32 ()."""
        return self._strategy.reduce("SUM", self._strategy.run(self._replica_step, batch), axis=None)

    def finish(self) -> float:
        """Waits for steps that are under way: none are."""
        return 0.0

    def validate(self, batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """What the task keeps of each image, float32 (images, k), a value for each device."""
        alone = self._strategy.num_replicas_in_sync == 1
        # A last batch may be too small to divide.
        return self._validate(batch, 1 if alone and len(batch[0]) < self._parts else self._parts)

    @tf.function
    def validate_whole(self, batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """As `validate`, of one device."""
        return self._strategy.run(self._replica_outputs, (*batch, 1))

    @tf.function
    def _validate(self, batch: tuple[tf.Tensor, tf.Tensor], parts: int) -> tf.Tensor:
        return self._strategy.run(self._replica_outputs, (*batch, parts))

    def _replica_step(self, images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        branches, total = self._settings.branches, tf.constant(0.0)
        sums: list[tf.Tensor] = []
        for turn in range(self.accumulation):
            with tf.control_dependencies(sums):  # in turn, so that memory is that of one part
                places = range(turn * branches, (turn + 1) * branches)
                found = [self._gradients(*_part(images, targets, place, self._parts)) for place in places]
            losses, gradients = zip(*found, strict=True)
            total += tf.add_n(list(losses))
            sums = [tf.add_n(list(each)) for each in zip(*gradients, *([sums] if sums else []), strict=True)]
        weights = self._model.trainable_variables
        if self._scaled:
            sums = self._optimizer.get_unscaled_gradients(sums)
        if decay := added_decay(self._settings) / self._strategy.num_replicas_in_sync:
            # Gradients of the replicas are added up.
            sums = [gradient + decay * weight for gradient, weight in zip(sums, weights, strict=True)]
        self._optimizer.apply_gradients(zip(sums, weights, strict=True))
        if self._average is not None:
            self._average.after_step()
        return total

    def _part_gradients(self, images: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            losses = self._task.training_loss(self._heads(images, training=True), targets)
            loss = tf.reduce_sum(losses) / self._task.training.batch_size
            if self._model.losses:  # penalties on weights, once over all replicas and parts
                loss += tf.add_n(self._model.losses) / (self._strategy.num_replicas_in_sync * self._parts)
            scaled = self._optimizer.get_scaled_loss(loss) if self._scaled else loss
        return loss, tape.gradient(scaled, self._model.trainable_variables)

    def _replica_outputs(self, images: tf.Tensor, targets: tf.Tensor, parts: int) -> tf.Tensor:
        def outputs(parts: int) -> tf.Tensor:
            found: list[tf.Tensor] = []
            for place in range(parts):
                # As many side by side as there are branches; the others in turn, so that memory is that of these.
                behind = found[: place - place % self._settings.branches]
                with tf.control_dependencies(behind):
                    part, truth = _part(images, targets, place, parts)
                    found.append(self._task.validation_outputs(self._model(part, training=False), truth))
            return tf.concat(found, axis=0)

        if self._strategy.num_replicas_in_sync == 1:
            return outputs(parts)
        # The last batch may leave a replica few images or none, and convolutions on the CPU refuse to take none.
        count, none = tf.shape(images)[0], tf.zeros([0, self._task.outputs], tf.float32)

        def of_few() -> tf.Tensor:
            return tf.cond(count > 0, lambda: outputs(1), lambda: none)

        return of_few() if parts == 1 else tf.cond(count >= parts, lambda: outputs(parts), of_few)


def _part(images: tf.Tensor, targets: tf.Tensor, place: int, parts: int) -> tuple[tf.Tensor, tf.Tensor]:
    """One of the parts, of nearly equal size, that images and targets are divided into."""
    if parts == 1:
        return images, targets
    count = tf.shape(images)[0]
    own = slice(count * place // parts, count * (place + 1) // parts)
    return images[own], targets[own]
