'use strict'
// Calls the square example over one gRPC channel, as any Node.js program would, and prints once a second who answered.
//
//     node client.js TARGET CALLS_PER_SECOND
//
// Messages are written and read by hand, so that nothing is generated. The lines are those of every client in this folder: see clients.go.

const grpc = require('@grpc/grpc-js')

const [target, rate] = process.argv.slice(2)
const client = new grpc.Client(target, grpc.credentials.createInsecure())
const told = { calls: 0, failed: 0, hosts: {}, errors: {} }
const count = (where, what) => { where[what] = (where[what] || 0) + 1 }

function varint (n) {
  const out = []
  for (; n > 127; n >>>= 7) out.push(n & 127 | 128)
  return [...out, n]
}

// fields are the fields of a message by their number: integers, or bytes.
function fields (message) {
  const out = {}
  let at = 0
  const number = () => {
    let n = 0
    for (let shift = 0; ; shift += 7) {
      const b = message[at++]
      n += (b & 127) * 2 ** shift
      if (b < 128) return n
    }
  }
  while (at < message.length) {
    const key = number()
    const value = number()
    if ((key & 7) === 2) {
      out[key >> 3] = message.subarray(at, at + value)
      at += value
    } else {
      out[key >> 3] = value
    }
  }
  return out
}

function call (n) {
  const same = b => b
  const request = Buffer.from([8, ...varint(n)])
  client.makeUnaryRequest('/square.SquareService/findSquareUnary', same, same, request, { deadline: Date.now() + 10000 }, (err, answer) => {
    told.calls++
    const got = err ? {} : fields(answer)
    if (!err && (got[2] || 0) !== n * n) err = new Error(`the square of ${n} is not ${got[2]}`)
    if (err) {
      told.failed++
      count(told.errors, err.message)
    } else {
      count(told.hosts, got[3].toString())
    }
  })
}

let n = 0
setInterval(() => call(++n % 1000), 1000 / Number(rate))
setInterval(() => console.log(JSON.stringify(told)), 1000)
