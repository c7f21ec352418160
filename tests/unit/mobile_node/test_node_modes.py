"""Where the mobile node ends up, from each kind of network."""

from node_world import World


def test_home_then_office_then_out_then_out_by_the_external_home_agent() -> None:
    world = World(endpoint_update=True, vpn_fa=False)
    world.plug("eth0", "home")
    world.wait_for("home", seconds=1)
    world.plug("eth0", "office")
    assert world.mode == "held"
    world.wait_for("c", seconds=1)
    world.plug("eth0", "cafe")
    assert world.mode == "held"
    world.wait_for("vc", seconds=4)
    other = World(endpoint_update=False, mobike=False, vpn_fa=False)
    other.plug("eth0", "cafe")
    other.wait_for("cvc", seconds=5)
