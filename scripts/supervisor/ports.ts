/** Whether the ports that the platform is to listen on are free. */
import { PORT_VARIABLES, type Ports, type Settings } from "./settings.ts";

/** Those of which something listens now. */
const PORTS_IN_USE: readonly (keyof Ports)[] = ["postgres", "http", "studio"];

/** A sentence for each port that cannot be had, naming the variable that changes it. */
export function findTakenPorts({ host, ports }: Settings): readonly string[] {
  const taken: string[] = [];
  for (const kind of PORTS_IN_USE) {
    const port = ports[kind];
    try {
      Bun.listen({ hostname: host, port, socket: { data() {} } }).stop(true);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      const what =
        code === "EACCES"
          ? "may not be opened by this user"
          : code === "EADDRNOTAVAIL"
            ? "cannot be opened, because the address in O7S_HOST is not this machine's"
            : "is in use by another program";
      taken.push(`Port ${port} ${what}. Set ${PORT_VARIABLES[kind]} to another, or free it.`);
    }
  }
  return taken;
}
