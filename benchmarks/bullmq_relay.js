// BullMQ's side of benchmarks/peers.py; the arguments are those of peer_program.py.
const { Queue, Worker } = require(process.env.BENCH_BULLMQ);
const fs = require('fs');
const { hostname, port } = new URL(process.env.BENCH_URL);
const connection = { host: hostname, port: Number(port), maxRetriesPerRequest: null };
const options = { removeOnComplete: true, removeOnFail: true };
const concurrency = process.env.BENCH_TUNED ? 50 : 1;
const stamp = () => Number(process.hrtime.bigint());
const message = (n) => ({
  session: 'session-1', type: 'DEPENDENCY_RESOLVED', emitter: 'agent-01', stamp: stamp(),
  payload: { dependency_id: `artefact-${String(n).padStart(8, '0')}`, output_location: 's3://builds/main/artefact/result.json' },
});

(async () => {
  const [command, first, second] = process.argv.slice(2);
  if (command === 'run' && first === 'relay') {
    const outbox = new Queue('outbox', { connection });
    new Worker('ingress', (job) => outbox.add('sink', job.data, options), { connection, concurrency });
  } else if (command === 'run') {
    const delays = [];
    new Worker('outbox', async (job) => {
      delays.push(stamp() - job.data.stamp);
      if (delays.length === Number(process.env.BENCH_COUNT)) fs.writeFileSync(process.env.BENCH_DELAYS, JSON.stringify(delays));
    }, { connection, concurrency: 50 });
  } else {
    const queue = new Queue('ingress', { connection });
    await queue.waitUntilReady();
    const [rate, count] = command === 'pace' ? [Number(first), Number(second)] : [0, Number(first)];
    const start = performance.now();
    for (let n = 0; n < count; n += rate ? 1 : 500) {
      const pause = rate ? start + (n * 1000) / rate - performance.now() : 0;
      if (pause > 0) await new Promise((done) => setTimeout(done, pause));
      const size = rate ? 1 : Math.min(500, count - n);
      await queue.addBulk(Array.from({ length: size }, (_, k) => ({ name: 'relay', data: message(n + k), opts: options })));
    }
    process.exit(0);
  }
})();
