# TensorFlow: tf.data over TFRecord and image files, list_files, interleave, snapshots of nothing: what was read, in an order-free form.
import hashlib, sys
import tensorflow as tf

root, scratch = sys.argv[1:3]


def digest(values):
    return hashlib.md5(repr(sorted(values)).encode()).hexdigest()


files = tf.data.Dataset.list_files(root + "/tfrecord/*.tfrecord", shuffle=False)
print("files", [f.numpy() for f in files])
records = [r.numpy() for r in files.interleave(tf.data.TFRecordDataset, cycle_length=3, num_parallel_calls=2)]
print("interleaved", len(records), digest(hashlib.md5(r).hexdigest() for r in records))
spec = {"x": tf.io.FixedLenFeature([], tf.string), "y": tf.io.FixedLenFeature([], tf.int64)}
parsed = tf.data.TFRecordDataset(sorted(tf.io.gfile.glob(root + "/tfrecord/*")), num_parallel_reads=2, buffer_size=100000).map(lambda r: tf.io.parse_single_example(r, spec), num_parallel_calls=2).shuffle(100).batch(32).prefetch(2)
print("parsed", sum(int(tf.reduce_sum(b["y"])) for b in parsed))
images = tf.data.Dataset.list_files(root + "/images/*/*.jpeg", shuffle=True).map(lambda p: (p, tf.io.read_file(p)), num_parallel_calls=4)
print("images", digest((p.numpy(), hashlib.md5(d.numpy()).hexdigest()) for p, d in images))
decoded = images.map(lambda p, d: tf.image.resize(tf.io.decode_jpeg(d, channels=3), [32, 32]), num_parallel_calls=2)
print("decoded", digest(hashlib.md5(x.numpy().tobytes()).hexdigest() for x in decoded))
folder = tf.keras.utils.image_dataset_from_directory(root + "/images", image_size=(32, 32), batch_size=16, shuffle=False)
print("directory", folder.class_names, hashlib.md5(b"".join(x.numpy().tobytes() for x, _ in folder)).hexdigest())
print("lines", sum(1 for _ in tf.data.TextLineDataset(sorted(tf.io.gfile.glob(root + "/criteo/*")))))
print("gfile", tf.io.gfile.exists(root + "/none"), tf.io.gfile.isdir(root + "/images"), tf.io.gfile.stat(root + "/criteo/part-0").length, sorted(tf.io.gfile.listdir(root + "/images")), sum(len(f) for _, _, f in tf.io.gfile.walk(root)))
with tf.io.gfile.GFile(root + "/criteo/part-1", "rb") as f:
    f.seek(100)
    print("seek", hashlib.md5(f.read(5000)).hexdigest(), f.size())
print("fixed", hashlib.md5(b"".join(r.numpy() for r in tf.data.FixedLengthRecordDataset(root + "/arrays/tokens.bin", 1000))).hexdigest())
tf.io.gfile.copy(root + "/criteo/part-2", scratch + "/copied", overwrite=True)
try:
    tf.io.write_file(root + "/new", "x")
except tf.errors.OpError as e:
    print("write", type(e).__name__)
