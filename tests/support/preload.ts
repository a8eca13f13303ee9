/** Runs before every test file: real servers take longer than the runner's five seconds when a machine is busy. */
import { setDefaultTimeout } from "bun:test";

setDefaultTimeout(30_000);
