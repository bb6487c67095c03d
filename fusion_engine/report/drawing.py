"""A graph as text or as a Mermaid diagram. No torch: a config is drawn without being built."""

from collections.abc import Collection

from fusion_engine.wiring import Wiring

SHAPES = {
    "encoder": "[{}]",
    "fusion": "{{{{{}}}}}",
    "posterior": "([{}])",
    "prior": "([{}])",
    "decoder": "[/{}/]",
    "head": "(({}))",
}


def as_text(wiring: Wiring) -> str:
    """List the nodes in order: what each is, what feeds it, what it makes, whose it is."""
    lines = [f"{name}: {use}" for name, use in wiring.modalities.items()]
    for name in wiring.order:
        node = wiring.nodes[name]
        ports = ", ".join(f"{port}={'+'.join(names)}" for port, names in node.ports.items()) or "nothing"
        out = f" -> {node.out}" if node.out else ""
        of = f", {of_port(name)} {'+'.join(node.of)}" if node.of else ""
        owners = " and ".join(player for player, names in wiring.players.items() if name in names)
        lines.append(f"{name}: {node.use} ({ports}){out}{of}  [{owners}]")
    return "\n".join(lines)


def of_port(prior: str, trained: Collection[str] | None = None) -> str:
    """Say what a prior does with the posterior that it is ``of``, where it is known which priors train with one."""
    return "of" if trained is None else "trains with" if prior in trained else "fitted to"


def as_mermaid(wiring: Wiring) -> str:
    """Write a Mermaid flowchart: the discriminator's nodes are dashed."""
    lines = ["flowchart LR"]
    lines += [f'  {m}[("{m}")]' for m in wiring.modalities]
    for name in wiring.order:
        node = wiring.nodes[name]
        label = f'"{name}<br/>{node.use.partition("/")[2]}"'
        lines.append(f"  {name}" + SHAPES[node.kind].format(label))
        lines += [f"  {source} --> {name}" for source in node.sources]
        lines += [f"  {name} -.-> {source}" for source in node.of]
        if node.out:
            lines.append(f'  {name} --> {node.out}_out[("{node.out}\'")]')
    alone = sorted(wiring.players["discriminator"] - wiring.shared)
    if alone:
        lines += ["  classDef discriminator stroke-dasharray: 4", f"  class {','.join(alone)} discriminator"]
    return "\n".join(lines)
