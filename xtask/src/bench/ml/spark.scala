// For the spark-shell. Settings are in the environment. Answers each line with `trained SECONDS RESULT`.
import java.nio.{ByteBuffer, ByteOrder}
import org.apache.spark.mllib.clustering.{KMeans, KMeansModel}
import org.apache.spark.mllib.linalg.Vectors
import org.apache.spark.mllib.optimization.{GradientDescent, LogisticGradient, SquaredL2Updater}
import org.apache.spark.storage.StorageLevel.MEMORY_ONLY

val columns = 100
val iterations = sys.env("ML_ITERATIONS").toInt

def rows(file: String, width: Int) = sc.binaryRecords("file://" + file, width * 8).map { record =>
  val row = new Array[Double](width)
  ByteBuffer.wrap(record).order(ByteOrder.LITTLE_ENDIAN).asDoubleBuffer.get(row)
  row
}.coalesce(2)

// What a training returns: the sum of squared distances at the last assignment, or the loss after all iterations.
val train: () => Double = sys.env("ML_WHAT") match {
  case "kmeans" =>
    val points = rows(sys.env("ML_DATA"), columns).map(Vectors.dense(_)).persist(MEMORY_ONLY)
    points.count
    val start = new KMeansModel(rows(sys.env("ML_CENTRES"), columns).collect.map(Vectors.dense(_)))
    val kmeans = new KMeans().setK(start.k).setMaxIterations(iterations).setEpsilon(0).setInitialModel(start)
    () => kmeans.run(points).trainingCost
  case "logistic" =>
    val examples =
      rows(sys.env("ML_DATA"), columns + 1).map(row => (row(0), Vectors.dense(row.tail))).persist(MEMORY_ONLY)
    examples.count
    () => {
      val (_, losses) = GradientDescent.runMiniBatchSGD(examples, new LogisticGradient(), new SquaredL2Updater(),
        1.0, iterations, 0.01, 1.0, Vectors.zeros(columns), 0.0)
      losses.last
    }
}

// The compiler of the JVM needs two to get up to speed.
(1 to 2).foreach(_ => train())
println("\nversion " + sc.version)
for (_ <- scala.io.Source.stdin.getLines()) {
  val start = System.nanoTime
  val result = train()
  println(s"\ntrained ${(System.nanoTime - start) / 1e9} $result")
}
System.exit(0)
