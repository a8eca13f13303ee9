/** `ogel org …` and `ogel token …`. */
import { TIERS } from "../../platform/tiers.ts";
import {
  type Command,
  integerOption,
  type Output,
  option,
  positional,
  UsageError,
} from "./command.ts";
import type { StudioClient } from "./studio-client.ts";
import { table } from "./table.ts";

type Org = {
  readonly orgId: string;
  readonly name: string;
  readonly tier: string;
  readonly status: string;
  readonly limits: { connections: number; limitQps: number; databases: number };
  readonly createdAt: string;
};

type NewToken = { readonly tokenId: string; readonly token: string };

type Token = {
  readonly tokenId: string;
  readonly prefix: string;
  readonly createdAt: string;
  readonly revokedAt: string | null;
};

const orgOption = { org: { value: "ORG", help: "the org's id", required: true } } as const;

export const orgCommands: readonly Command[] = [
  {
    name: "org create",
    summary: "Create an org; prints its first token, once",
    positionals: ["NAME"],
    options: { tier: { value: "TIER", help: `${TIERS.join(", ")} (default FREE)` } },
    async run(input, { studio }) {
      const tier = input.options["tier"] ?? "FREE";
      const body = { name: positional(input, 0), tier: tier.toUpperCase() };
      const { orgId, token } = await studio().call<Org & NewToken>("POST", "/orgs", body);
      return {
        json: { orgId, token },
        text:
          `Created ${orgId} on ${body.tier}.\n\n  token  ${token}\n\n` +
          "Keep the token: it is not shown again.\n" +
          `Next: ./scripts/ogel db create app --org ${orgId} --kind postgres\n`,
      };
    },
  },
  {
    name: "org list",
    summary: "List all orgs",
    positionals: [],
    options: {},
    async run(_, { studio }) {
      const orgs = await allOrgs(studio());
      const rows = orgs.map((org) => [
        org.orgId,
        org.name,
        org.tier,
        org.status,
        org.limits.connections,
        org.limits.limitQps,
      ]);
      const headings = ["org", "name", "tier", "status", "connections", "qps"];
      return {
        json: { orgs },
        text: table(headings, rows, "There are no orgs yet. Next: ./scripts/ogel org create NAME"),
      };
    },
  },
  {
    name: "org show",
    summary: "Show an org, its status and limits",
    positionals: ["ORG"],
    options: {},
    async run(input, { studio }) {
      return shown(await studio().call<Org>("GET", orgPath(positional(input, 0))));
    },
  },
  {
    name: "org set-tier",
    summary: "Move an org to another tier",
    positionals: ["ORG", "TIER"],
    options: {},
    async run(input, { studio }) {
      const path = `${orgPath(positional(input, 0))}/tier`;
      const tier = positional(input, 1).toUpperCase();
      return shown(await studio().call<Org>("PUT", path, { tier }));
    },
  },
  {
    name: "org set-limits",
    summary: "Change limits by contract; 0 gives the tier's own back",
    positionals: ["ORG"],
    options: {
      qps: { value: "N", help: "queries per second" },
      connections: { value: "N", help: "connections at one time" },
    },
    async run(input, { studio }) {
      const limitQps = integerOption(input, "qps");
      const connections = integerOption(input, "connections");
      if (limitQps === undefined && connections === undefined) {
        throw new UsageError("Say which limit: --qps N, --connections N, or both.");
      }
      const body = {
        ...(limitQps !== undefined && { limitQps: limitQps || null }),
        ...(connections !== undefined && { connections: connections || null }),
      };
      const path = `${orgPath(positional(input, 0))}/limits`;
      return shown(await studio().call<Org>("PATCH", path, body));
    },
  },
  {
    name: "org suspend",
    summary: "Close an org to all its clients, keeping everything",
    positionals: ["ORG"],
    options: {},
    async run(input, { studio }) {
      return shown(await studio().call<Org>("POST", `${orgPath(positional(input, 0))}/suspend`));
    },
  },
  {
    name: "org resume",
    summary: "Open a suspended org again",
    positionals: ["ORG"],
    options: {},
    async run(input, { studio }) {
      return shown(await studio().call<Org>("POST", `${orgPath(positional(input, 0))}/resume`));
    },
  },
];

export const tokenCommands: readonly Command[] = [
  {
    name: "token create",
    summary: "Create a further token; prints it, once",
    positionals: [],
    options: orgOption,
    async run(input, { studio }) {
      const path = `${orgPath(option(input, "org"))}/tokens`;
      const { tokenId, token } = await studio().call<NewToken>("POST", path);
      return {
        json: { tokenId, token },
        text: `Created ${tokenId}.\n\n  token  ${token}\n\nKeep it: it is not shown again.\n`,
      };
    },
  },
  {
    name: "token list",
    summary: "List the tokens of an org",
    positionals: [],
    options: orgOption,
    async run(input, { studio }) {
      const path = `${orgPath(option(input, "org"))}/tokens`;
      const { tokens } = await studio().call<{ tokens: readonly Token[] }>("GET", path);
      const rows = tokens.map((token) => [
        token.tokenId,
        `${token.prefix}…`,
        token.createdAt,
        token.revokedAt,
      ]);
      const headings = ["token", "begins with", "created", "revoked"];
      return { json: { tokens }, text: table(headings, rows, "The org has no tokens.") };
    },
  },
  {
    name: "token revoke",
    summary: "End a token, for open sessions too",
    positionals: ["TOKEN_ID"],
    options: orgOption,
    async run(input, { studio }) {
      const tokenId = positional(input, 0);
      const path = `${orgPath(option(input, "org"))}/tokens/${encodeURIComponent(tokenId)}`;
      await studio().call("DELETE", path);
      return { json: { tokenId, revoked: true }, text: `Revoked ${tokenId}.\n` };
    },
  },
];

/** The path of an org's resources, whatever was typed for its id. */
export function orgPath(orgId: string): string {
  return `/orgs/${encodeURIComponent(orgId)}`;
}

async function allOrgs(studio: StudioClient): Promise<readonly Org[]> {
  const orgs: Org[] = [];
  let after: string | null = null;
  do {
    const query: string = after === null ? "" : `?after=${after}`;
    const page: { orgs: readonly Org[]; next: string | null } = await studio.call(
      "GET",
      `/orgs${query}`,
    );
    orgs.push(...page.orgs);
    after = page.next;
  } while (after !== null);
  return orgs;
}

function shown(org: Org): Output {
  const { limits } = org;
  return {
    json: org,
    text:
      `${org.orgId} (${org.name}) is ${org.status} on ${org.tier}: ` +
      `${limits.connections} connections, ${limits.limitQps} queries per second, ` +
      `${limits.databases} databases.\n`,
  };
}
