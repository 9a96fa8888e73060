// Signal Fabric's plugin for OpenCode: gives each event to `fabric hook opencode`, and acts on the answer.
import { spawn } from "node:child_process"

const COMMAND = __COMMAND__
const FOLLOW = __FOLLOW__

const ask = (hook, data, cwd) =>
  new Promise((resolve) => {
    const child = spawn(COMMAND[0], COMMAND.slice(1), { cwd, stdio: ["pipe", "pipe", "ignore"] })
    let said = ""
    child.on("error", () => resolve({})) // a hook that cannot run lets the work go on
    child.stdout.on("data", (part) => (said += part))
    child.on("close", () => {
      try {
        resolve(said ? JSON.parse(said) : {})
      } catch {
        resolve({})
      }
    })
    child.stdin.on("error", () => {})
    child.stdin.end(JSON.stringify({ hook, ...data }))
  })

const EVENTS = new Set(["session.created", "session.idle", "session.error", "session.deleted"])

export const Fabric = async ({ directory, client }) => {
  const tell = (hook, data) => ask(hook, { directory, ...data }, directory)
  const begin = (id, text) =>
    client.session.promptAsync({ path: { id }, body: { parts: [{ type: "text", text }] } }).catch(() => {})
  const followed = new Set()
  // Each line begins a turn of an idle session. `opencode run` ends with its turn.
  const follow = (id) => {
    if (!id || followed.has(id) || !client?.session?.promptAsync || process.argv.includes("run")) return
    followed.add(id)
    const child = spawn(FOLLOW[0], [...FOLLOW.slice(1), id], { cwd: directory, stdio: ["ignore", "pipe", "ignore"] })
    let said = ""
    child.on("error", () => {})
    child.on("close", () => followed.delete(id))
    child.stdout.on("data", (part) => {
      const lines = (said + part).split("\n")
      said = lines.pop()
      for (const line of lines) begin(id, line)
    })
    child.unref()
  }
  return {
    event: async ({ event }) => {
      if (!EVENTS.has(event.type)) return
      const { hold } = await tell(event.type, { input: event })
      // The turn is over, so what is still open begins another one.
      if (hold && client?.session?.promptAsync) await begin(event.properties.sessionID, hold)
      if (event.type === "session.idle") follow(event.properties.sessionID)
    },
    "chat.message": async (input) => {
      await tell("chat.message", { input })
    },
    "tool.execute.before": async (input, output) => {
      const { refusal } = await tell("tool.execute.before", { input, args: output.args })
      if (refusal) throw new Error(refusal)
    },
    "tool.execute.after": async (input, output) => {
      const { context } = await tell("tool.execute.after", { input, args: input.args })
      if (context) output.output += "\n\n" + context
    },
    "shell.env": async (input, output) => {
      const { env } = await tell("shell.env", { input })
      Object.assign(output.env, env ?? {})
    },
    "experimental.chat.system.transform": async (input, output) => {
      const { context } = await tell("system.transform", { input })
      if (context) output.system.push(context)
    },
  }
}
